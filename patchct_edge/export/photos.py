"""The pictures of an export: some calibrate the quantiser, others judge the result."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from patchct_edge import images
from patchct_edge.datasets import DataSet, read_dataset
from patchct_edge.errors import ImageError, UserError
from patchct_edge.export.parity import Pictures
from patchct_edge.parallel import ordered_map
from patchct_edge.preprocess import Recipe
from patchct_edge.runtime.engines.base import Images
from patchct_edge.runtime.inputs import find_images

CALIBRATION_IMAGES = 256
PARITY_IMAGES = 500
ENOUGH = 16  # a folder smaller than twice this serves both purposes whole


@dataclass(frozen=True)
class Photos:
    """Quantiser calibration, uint8 (count, H, W, 3) or None; pictures to compare on; a name."""

    calibration: Images | None
    parity: Pictures
    fingerprint: str | None


def photos_from(
    source: Path | None, split: str | None, labels: Sequence[str], recipe: Recipe
) -> Photos:
    """Read the photos of an export.

    A data set calibrates with its train split, never another, and compares on its val split, or on
    `split`. What has no val split, and a plain folder, is divided at random. Without a source the
    comparison is on noise. Without a train split or a source, nothing can be quantised.

    Raises:
        UserError: no data set, no folder of images, or an image that cannot be read.
    """
    if source is None:
        return Photos(None, Pictures(_noise(recipe)), None)
    if _is_plain_folder(source):
        paths = list(find_images([str(source)]))
        first, second = _divided(len(paths))
        return Photos(
            _pixels([paths[n] for n in first], recipe),
            Pictures(_pixels([paths[n] for n in second], recipe)),
            None,
        )
    whole = read_dataset(source, labels=labels)
    splits = {sample.split for sample in whole.samples}
    train = read_dataset(source, split="train", labels=labels) if "train" in splits else None
    if splits == {None} or (split is None and "val" not in splits):
        train = val = train or whole
        first, second = _divided(len(val))
    else:
        val = read_dataset(source, split=split or "val", labels=labels)
        first = _drawn(len(train or ()), CALIBRATION_IMAGES)
        second = _drawn(len(val), PARITY_IMAGES)
    calibration = _pixels([train.paths[n] for n in first], recipe) if train else None
    return Photos(calibration, _labelled(val, second, recipe), whole.fingerprint())


def _is_plain_folder(source: Path) -> bool:
    marks = ("labels.csv", "Annotations")
    return source.is_dir() and not any((source / mark).exists() for mark in marks)


def _labelled(data: DataSet, rows: npt.NDArray[np.intp], recipe: Recipe) -> Pictures:
    targets, ignored = data.targets()
    return Pictures(_pixels([data.paths[n] for n in rows], recipe), targets[rows], ignored[rows])


def _drawn(count: int, most: int) -> npt.NDArray[np.intp]:
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


def _divided(count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Draw calibration and parity rows that do not overlap, unless there are too few for that."""
    order = np.random.default_rng(0).permutation(count)
    if count < 2 * ENOUGH:
        return order, order
    first = min(CALIBRATION_IMAGES, count // 2)
    return order[:first], order[first : first + PARITY_IMAGES]


def _pixels(paths: Sequence[Path], recipe: Recipe) -> Images:
    def read(path: Path) -> images.RGB:
        return recipe.apply(images.decode(path))

    workers = os.cpu_count() or 1
    try:
        return np.stack(list(ordered_map(read, paths, workers=workers, ahead=4 * workers)))
    except ImageError as error:
        raise UserError(f"a photo for the export cannot be read: {error.what}") from None


def _noise(recipe: Recipe, count: int = 32) -> Images:
    """Soft random colours, some structure at every scale."""
    rng = np.random.default_rng(0)
    side = recipe.size
    found = []
    for n in range(count):
        coarse = rng.integers(0, 256, (2 ** (1 + n % 6), 2 ** (1 + n % 6), 3), dtype=np.uint8)
        found.append(images.resize(coarse, side, side, "bicubic"))
    return np.stack(found)
