"""Any data set to samples, with its label set and the split that is asked for."""

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

ALL = "all"
SHOWN = 10  # labels that a warning names


def read_dataset(
    source: Path,
    *,
    split: str | None = None,
    labels: Sequence[str] | None = None,
    images: Path | None = None,
    prefer: str | None = None,
) -> Dataset:
    """Read a data set whole, and return what is asked for: `select` of `read_all_splits`."""
    return select_split(read_all_splits(source, images), split=split, labels=labels, prefer=prefer)


def select_split(
    whole: Dataset,
    *,
    split: str | None = None,
    labels: Sequence[str] | None = None,
    prefer: str | None = None,
) -> Dataset:
    """Return one split of a data set, over a label set.

    Args:
        whole: what `read_all_splits` returned.
        split: the split to take; "all" takes every sample.
        labels: the label set; by default what the train split has, or the whole set where there
            is no train split.
        prefer: the split to take where `split` is None; without it every sample is taken.

    Returns:
        The samples in file order. They keep labels outside the label set; a warning counts those.

    Raises:
        UserError: there is no split of that name, or the label set is faulty.
    """
    label_set = _label_set(whole) if labels is None else tuple(labels)
    twice = [label for label, count in Counter(label_set).items() if count > 1]
    if twice:
        raise UserError("the label set has a label twice", got=", ".join(twice))
    samples, split_warnings = _of_split(whole.samples, split or prefer or ALL)
    warnings = (*_foreign_labels(whole.samples, label_set), *split_warnings)
    return Dataset(samples, label_set, warnings=warnings)


def read_all_splits(source: Path, images: Path | None = None) -> Dataset:
    """Read every sample of a CSV (or the folder of a labels.csv), a COCO JSON or a VOC folder.

    Args:
        source: the file or folder.
        images: where the image files of a COCO JSON lie.

    Raises:
        FaultsError: the data set has faults; every one is listed, and nothing is read by halves.
        UserError: there is no data set or no image in it.
    """
    whole = _read_any(source, images)
    if not whole.samples:
        raise UserError("the data set has no image", got=source)
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
            fix="leave --images out: the data set says where its images lie",
        )
    if (source / "Annotations").is_dir():
        return read_voc(source)
    if (source / "labels.csv").is_file():
        return read_csv(source / "labels.csv")
    if suffix in (".csv", ".tsv"):
        return read_csv(source)
    raise UserError(
        "not a data set" if source.exists() else "no such data set",
        got=source,
        expected="a CSV, a folder with labels.csv, a COCO JSON, or a VOC folder with Annotations/",
        fix="write a labels.csv with the columns image,labels beside the images",
    )


def _label_set(whole: Dataset) -> tuple[str, ...]:
    """Return what the train split has (all, where it has no image), in the order of the format."""
    train = [s for s in whole.samples if s.split == "train"] or whole.samples
    present = {label for sample in train for label in sample.labels}
    return tuple(label for label in whole.label_set if label in present)


def _of_split(
    samples: tuple[Sample, ...], split: str
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """Return the samples of a split, and the warnings about it."""
    if split == ALL:
        return samples, ()
    splits = sorted({sample.split for sample in samples if sample.split})
    if not splits:
        return samples, (f"the data set names no split: all {len(samples)} images are read",)
    if split not in splits:
        raise UserError(
            "the data set has no split of that name",
            got=split,
            expected=" or ".join(splits),
            fix=f"ask for {splits[0]} or {ALL} where there is a --split; or name the split "
            f"{split} in the data set, or none at all",
        )
    return tuple(sample for sample in samples if sample.split == split), ()


def _foreign_labels(samples: Sequence[Sample], label_set: Sequence[str]) -> tuple[str, ...]:
    """Return one warning that counts the images of each label outside the label set, if any."""
    known = set(label_set)
    counts = Counter(label for s in samples for label in s.labels if label not in known)
    if not counts:
        return ()
    shown = [f"{label} ({count})" for label, count in counts.most_common(SHOWN)]
    if len(counts) > SHOWN:
        shown.append(f"and {len(counts) - SHOWN} more")
    labels_are = (
        "1 label outside the label set is"
        if len(counts) == 1
        else (f"{len(counts)} labels outside the label set are")
    )
    return (f"{labels_are} not used: {', '.join(shown)}",)


def split_off_validation(data: Dataset, share: float = 0.1) -> tuple[Dataset, Dataset]:
    """Divide a set without a val split: (the rest, `share` of it drawn at random, at least one).

    The same images are drawn every time.
    """
    order = np.random.default_rng(0).permutation(len(data))
    held = set(order[: max(1, round(share * len(data)))].tolist())
    rest = tuple(s for n, s in enumerate(data.samples) if n not in held)
    drawn = tuple(s for n, s in enumerate(data.samples) if n in held)
    return replace(data, samples=rest), replace(data, samples=drawn)
