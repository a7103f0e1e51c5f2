"""Read a dataset of any format, with its label set and one of its splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from patchct_edge.datasets.coco import read_coco
from patchct_edge.datasets.csv import read_csv
from patchct_edge.datasets.dataset import Dataset, Sample
from patchct_edge.datasets.voc import read_voc
from patchct_edge.errors import UserError

ALL_SPLITS = "all"
MAX_LISTED_LABELS = 10  # in a warning


def read_dataset(
    source: Path,
    *,
    split: str | None = None,
    labels: Sequence[str] | None = None,
    images: Path | None = None,
    default_split: str | None = None,
) -> Dataset:
    """Read a dataset and select a split: `select_split` of `read_all_splits`."""
    return select_split(
        read_all_splits(source, images), split=split, labels=labels, default_split=default_split
    )


def select_split(
    whole: Dataset,
    *,
    split: str | None = None,
    labels: Sequence[str] | None = None,
    default_split: str | None = None,
) -> Dataset:
    """Return one split of a dataset, over a label set.

    Args:
        whole: the dataset that `read_all_splits` returned.
        split: the split to take; "all" takes every sample.
        labels: the label set; by default the labels of the train split, or of all samples if there
            is no train split.
        default_split: the split to take if `split` is None; by default every sample.

    Returns:
        The samples in file order. They keep labels outside the label set, which a warning counts.

    Raises:
        UserError: there is no split of that name, or the label set lists a label twice.
    """
    label_set = _infer_label_set(whole) if labels is None else tuple(labels)
    twice = [label for label, count in Counter(label_set).items() if count > 1]
    if twice:
        raise UserError("the label set lists a label twice", got=", ".join(twice))
    samples, split_warnings = _select_samples(whole.samples, split or default_split or ALL_SPLITS)
    warnings = (*_warn_of_unknown_labels(whole.samples, label_set), *split_warnings)
    return Dataset(samples, label_set, warnings=warnings)


def read_all_splits(source: Path, images: Path | None = None) -> Dataset:
    """Read every sample of a CSV (or the folder of a labels.csv), a COCO JSON or a VOC folder.

    Args:
        source: the file or folder.
        images: the folder of the image files of a COCO JSON.

    Raises:
        FaultsError: the dataset has faults; every fault is listed, and no sample is returned.
        UserError: there is no dataset, or it has no image.
    """
    whole = _read_any(source, images)
    if not whole.samples:
        raise UserError("the dataset has no image", got=source)
    return whole


def _read_any(source: Path, images: Path | None) -> Dataset:
    suffix = source.suffix.lower() if source.is_file() else ""
    if images is not None and not images.is_dir():
        raise UserError("no such folder of images", got=images)
    if suffix == ".json":
        return read_coco(source, images)
    if images is not None:
        raise UserError(
            "only a COCO JSON takes a folder of images",
            got=source,
            fix="leave out --images: the dataset names the files of its images",
        )
    if (source / "Annotations").is_dir():
        return read_voc(source)
    if (source / "labels.csv").is_file():
        return read_csv(source / "labels.csv")
    if suffix in (".csv", ".tsv"):
        return read_csv(source)
    raise UserError(
        "not a dataset" if source.exists() else "no such dataset",
        got=source,
        expected="a CSV, a folder with labels.csv, a COCO JSON, or a VOC folder with Annotations/",
        fix="write a labels.csv with the columns image,labels beside the images",
    )


def _infer_label_set(whole: Dataset) -> tuple[str, ...]:
    """Return the labels of the train split, or of all samples if it is empty, in file order."""
    train = [s for s in whole.samples if s.split == "train"] or whole.samples
    present = {label for sample in train for label in sample.labels}
    return tuple(label for label in whole.label_set if label in present)


def _select_samples(
    samples: tuple[Sample, ...], split: str
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """Return the samples of a split, and warnings about them."""
    if split == ALL_SPLITS:
        return samples, ()
    splits = sorted({sample.split for sample in samples if sample.split})
    if not splits:
        return samples, (f"the dataset has no splits: using all {len(samples)} images",)
    if split not in splits:
        raise UserError(
            "the dataset has no such split",
            got=split,
            expected=" or ".join([*splits, ALL_SPLITS]),
            fix=f"mark photos as {split} in the dataset; or, if the command has --split, pass "
            f"--split {splits[0]} or --split {ALL_SPLITS}",
        )
    return tuple(sample for sample in samples if sample.split == split), ()


def _warn_of_unknown_labels(samples: Sequence[Sample], label_set: Sequence[str]) -> tuple[str, ...]:
    """Return a warning that counts the images of each label outside the label set, if any."""
    known = set(label_set)
    counts = Counter(label for s in samples for label in s.labels if label not in known)
    if not counts:
        return ()
    listed = [f"{label} ({count})" for label, count in counts.most_common(MAX_LISTED_LABELS)]
    if len(counts) > MAX_LISTED_LABELS:
        listed.append(f"and {len(counts) - MAX_LISTED_LABELS} more")
    labels_are = (
        "1 label outside the label set is"
        if len(counts) == 1
        else (f"{len(counts)} labels outside the label set are")
    )
    return (f"{labels_are} not used: {', '.join(listed)}",)


def split_off_validation(dataset: Dataset, fraction: float = 0.1) -> tuple[Dataset, Dataset]:
    """Divide a dataset without a val split into (training, validation).

    Args:
        fraction: of the images that become validation images, at least one. They are drawn at
            random, the same every time.
    """
    order = np.random.default_rng(0).permutation(len(dataset))
    drawn = set(order[: max(1, round(fraction * len(dataset)))].tolist())
    training = tuple(s for n, s in enumerate(dataset.samples) if n not in drawn)
    validation = tuple(s for n, s in enumerate(dataset.samples) if n in drawn)
    return replace(dataset, samples=training), replace(dataset, samples=validation)
