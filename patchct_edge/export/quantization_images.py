"""The images of an export: some set the INT8 ranges, others compare the stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from patchct_edge import images
from patchct_edge.arrays import ImageBatch
from patchct_edge.bundle import Preprocessing
from patchct_edge.datasets import Dataset, read_dataset, select_split, split_off_validation
from patchct_edge.errors import ImageError, UserError
from patchct_edge.export.parity import ParityImages
from patchct_edge.parallel import count_workers, map_in_order
from patchct_edge.runtime.tagging.inputs import find_images

T = TypeVar("T")
MAX_QUANTIZATION_IMAGES = 256
MAX_PARITY_IMAGES = 500
MIN_IMAGES_PER_PURPOSE = 16  # a folder with fewer than twice as many serves both purposes whole
NOISE_IMAGES = 32


@dataclass(frozen=True)
class PhotoSources:
    """Where the photos of an export are.

    Attributes:
        quantization: a dataset or a folder of photos.
        parity: a dataset to compare the stages on; by default what `quantization` has beside its
            train split.
        split: the split to compare on, val by default.
        images: folder of the image files of a COCO JSON.
    """

    quantization: Path | None = None
    parity: Path | None = None
    split: str | None = None
    images: Path | None = None


@dataclass(frozen=True)
class ExportImages:
    """The images of an export.

    Attributes:
        quantization: images to quantize with, uint8 (N, H, W, 3), or None.
        parity: images to compare the stages on.
        fingerprint: of the dataset to quantize with; None for a folder, or without photos.
    """

    quantization: ImageBatch | None
    parity: ParityImages
    fingerprint: str | None


def read_export_images(
    sources: PhotoSources, labels: Sequence[str], preprocessing: Preprocessing
) -> ExportImages:
    """Read the images of an export; no image quantizes and compares, except in a small folder.

    Only the train split of a dataset quantizes. A dataset without a val split is divided as
    `patchct train` divides it, so that no training image compares; a folder is divided at random.
    Without any photos, the stages are compared on noise.

    Raises:
        UserError: a source is neither a dataset nor a folder of images, or an image cannot be read.
    """
    source = sources.quantization
    if source is None and sources.parity is None:
        return ExportImages(None, ParityImages(_generate_noise(preprocessing)), None)
    quantization_paths: Sequence[Path] = ()
    unlabeled_paths: Sequence[Path] = ()
    fingerprint = parity_dataset = None
    if source is not None and _is_plain_folder(source):
        paths = list(find_images([str(source)]))
        quantization_paths, unlabeled_paths = _divide(paths, needs_parity=sources.parity is None)
    elif source is not None:
        dataset = read_dataset(source, labels=labels, images=sources.images)
        fingerprint = dataset.fingerprint()
        train, parity_dataset = _select_train_and_val(sources, dataset)
        quantization_paths = _sample(train.paths, MAX_QUANTIZATION_IMAGES) if train else ()
    if sources.parity is not None:
        split = sources.split or "val"
        parity_dataset = read_dataset(
            sources.parity, split=split, labels=labels, images=sources.images
        )
    parity = (
        _read_labeled(parity_dataset, preprocessing)
        if parity_dataset
        else ParityImages(_read_images(unlabeled_paths, preprocessing))
    )
    quantization = _read_images(quantization_paths, preprocessing) if quantization_paths else None
    return ExportImages(quantization, parity, fingerprint)


def _select_train_and_val(
    sources: PhotoSources, dataset: Dataset
) -> tuple[Dataset | None, Dataset | None]:
    """Return the parts that quantize and compare; the latter is None if it has its own source."""
    labels = dataset.label_set
    splits = {sample.split for sample in dataset.samples}
    train = select_split(dataset, split="train", labels=labels) if "train" in splits else None
    if sources.parity is not None:
        return dataset if splits == {None} else train, None
    if splits == {None} or (train and sources.split is None and "val" not in splits):
        return split_off_validation(train or dataset)
    return train, select_split(dataset, split=sources.split or "val", labels=labels)


def _is_plain_folder(source: Path) -> bool:
    dataset_marks = ("labels.csv", "Annotations")
    return source.is_dir() and not any((source / name).exists() for name in dataset_marks)


def _read_labeled(dataset: Dataset, preprocessing: Preprocessing) -> ParityImages:
    rows = _sample(range(len(dataset)), MAX_PARITY_IMAGES)
    targets, ignored = dataset.build_targets()
    paths = [dataset.paths[row] for row in rows]
    return ParityImages(_read_images(paths, preprocessing), targets[rows], ignored[rows])


def _sample(items: Sequence[T], max_count: int) -> list[T]:
    """Draw at most `max_count` items at random, the same every time, in their order."""
    indices = np.random.default_rng(0).permutation(len(items))[:max_count]
    return [items[index] for index in np.sort(indices)]


def _divide(paths: Sequence[Path], *, needs_parity: bool) -> tuple[Sequence[Path], Sequence[Path]]:
    """Divide the photos of a folder at random into those that quantize and those that compare.

    All serve both purposes if there are few, or if others compare.
    """
    if not needs_parity or len(paths) < 2 * MIN_IMAGES_PER_PURPOSE:
        return _sample(paths, MAX_QUANTIZATION_IMAGES), paths
    order = np.random.default_rng(0).permutation(len(paths))
    count = min(MAX_QUANTIZATION_IMAGES, len(paths) // 2)
    drawn = [paths[index] for index in order[: count + MAX_PARITY_IMAGES]]
    return drawn[:count], drawn[count:]


def _read_images(paths: Sequence[Path], preprocessing: Preprocessing) -> ImageBatch:
    workers = count_workers()
    try:
        return np.stack(
            list(map_in_order(preprocessing.read, paths, workers=workers, max_pending=4 * workers))
        )
    except ImageError as error:
        raise UserError(f"cannot read a photo for the export: {error.problem}") from None


def _generate_noise(preprocessing: Preprocessing) -> ImageBatch:
    """Return images of smooth random colors, with structure at every scale."""
    rng = np.random.default_rng(0)
    side = preprocessing.size
    noise = []
    for n in range(NOISE_IMAGES):
        cells = 2 ** (1 + n % 6)
        coarse = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        noise.append(images.resize(coarse, side, side, "bicubic"))
    return np.stack(noise)
