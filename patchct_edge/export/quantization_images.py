"""The pictures of an export: some calibrate the quantizer, others judge the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from patchct_edge import images
from patchct_edge.arrays import RGB, ImageBatch
from patchct_edge.bundle import Preprocessing
from patchct_edge.datasets import Dataset, read_dataset, select_split, split_off_validation
from patchct_edge.errors import ImageError, UserError
from patchct_edge.export.parity import ParityImages
from patchct_edge.parallel import count_workers, map_in_order
from patchct_edge.runtime.tagging.inputs import find_images

T = TypeVar("T")
CALIBRATION_IMAGES = 256
PARITY_IMAGES = 500
ENOUGH = 16  # a folder smaller than twice this serves both purposes whole


@dataclass(frozen=True)
class PhotoSources:
    """Where the photos of an export lie.

    Attributes:
        calibration: a dataset or a plain folder.
        comparison: a dataset; by default what `calibration` holds beside its train split.
        split: the split to compare on, val by default.
        images: where the image files of a COCO JSON lie.
    """

    calibration: Path | None = None
    comparison: Path | None = None
    split: str | None = None
    images: Path | None = None


@dataclass(frozen=True)
class ExportImages:
    """Quantiser calibration, uint8 (count, H, W, 3) or None; pictures to compare on; a name."""

    calibration: ImageBatch | None
    parity: ParityImages
    fingerprint: str | None


def read_export_images(
    sources: PhotoSources, labels: Sequence[str], preprocessing: Preprocessing
) -> ExportImages:
    """Read the photos of an export; what calibrates never judges.

    A dataset calibrates with its train split alone. One without a val split is divided as
    `patchct train` divides it, so that no picture that was trained on judges; a plain folder is
    divided at random. Without any photos the comparison is on noise. Without a train split,
    nothing can be quantized.

    Raises:
        UserError: no dataset, no folder of images, or an image that cannot be read.
    """
    source, comparison = sources.calibration, sources.comparison
    if source is None and comparison is None:
        return ExportImages(None, ParityImages(_noise(preprocessing)), None)
    calibrating: Sequence[Path] = ()
    unlabeled: Sequence[Path] = ()
    name = judging = None
    if source is not None and _is_plain_folder(source):
        paths = list(find_images([str(source)]))
        calibrating, unlabeled = _divided(paths, tell_apart=comparison is None)
    elif source is not None:
        whole = read_dataset(source, labels=labels, images=sources.images)
        name = whole.fingerprint()
        train, judging = _train_and_val(sources, whole)
        calibrating = _drawn(train.paths, CALIBRATION_IMAGES) if train else ()
    if comparison is not None:
        split = sources.split or "val"
        judging = read_dataset(comparison, split=split, labels=labels, images=sources.images)
    parity = (
        _labelled(judging, preprocessing)
        if judging
        else ParityImages(_pixels(unlabeled, preprocessing))
    )
    return ExportImages(_pixels(calibrating, preprocessing) if calibrating else None, parity, name)


def _train_and_val(sources: PhotoSources, whole: Dataset) -> tuple[Dataset | None, Dataset | None]:
    """Return what calibrates and what judges; the latter is None where it comes from elsewhere."""
    labels = whole.label_set
    splits = {sample.split for sample in whole.samples}
    train = select_split(whole, split="train", labels=labels) if "train" in splits else None
    if sources.comparison is not None:
        return whole if splits == {None} else train, None
    if splits == {None} or (train and sources.split is None and "val" not in splits):
        return split_off_validation(train or whole)
    return train, select_split(whole, split=sources.split or "val", labels=labels)


def _is_plain_folder(source: Path) -> bool:
    marks = ("labels.csv", "Annotations")
    return source.is_dir() and not any((source / mark).exists() for mark in marks)


def _labelled(data: Dataset, preprocessing: Preprocessing) -> ParityImages:
    rows = _drawn(range(len(data)), PARITY_IMAGES)
    targets, ignored = data.targets()
    return ParityImages(
        _pixels([data.paths[n] for n in rows], preprocessing), targets[rows], ignored[rows]
    )


def _drawn(items: Sequence[T], most: int) -> list[T]:
    order = np.random.default_rng(0).permutation(len(items))[:most]
    return [items[n] for n in np.sort(order)]


def _divided(paths: Sequence[Path], *, tell_apart: bool) -> tuple[Sequence[Path], Sequence[Path]]:
    """Divide a folder into what calibrates and what judges, unless it is too small for that."""
    if not tell_apart or len(paths) < 2 * ENOUGH:
        return _drawn(paths, CALIBRATION_IMAGES), paths
    order = np.random.default_rng(0).permutation(len(paths))
    first = min(CALIBRATION_IMAGES, len(paths) // 2)
    chosen = [paths[n] for n in order[: first + PARITY_IMAGES]]
    return chosen[:first], chosen[first:]


def _pixels(paths: Sequence[Path], preprocessing: Preprocessing) -> ImageBatch:
    def read(path: Path) -> RGB:
        return preprocessing.read(path)

    workers = count_workers()
    try:
        return np.stack(list(map_in_order(read, paths, workers=workers, max_pending=4 * workers)))
    except ImageError as error:
        raise UserError(f"a photo for the export cannot be read: {error.problem}") from None


def _noise(preprocessing: Preprocessing, count: int = 32) -> ImageBatch:
    """Soft random colors, some structure at every scale."""
    rng = np.random.default_rng(0)
    side = preprocessing.size
    found = []
    for n in range(count):
        coarse = rng.integers(0, 256, (2 ** (1 + n % 6), 2 ** (1 + n % 6), 3), dtype=np.uint8)
        found.append(images.resize(coarse, side, side, "bicubic"))
    return np.stack(found)
