"""Samples and the dataset that holds them: what every reader returns."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from patchct_edge.arrays import Bools


@dataclass(frozen=True)
class Sample:
    """One photo of a dataset.

    Args:
        labels: every label of the photo, the difficult ones included.
        difficult: the labels that are present only as difficult objects: masked in the loss and
            left out of that label's average precision.
        split: None if the dataset names no split.
        row: line of its file, None if the file has no rows.
    """

    path: Path
    labels: tuple[str, ...]
    difficult: tuple[str, ...] = ()
    split: str | None = None
    row: int | None = None


@dataclass(frozen=True)
class Dataset:
    """Samples in file order, with their label set.

    Args:
        label_set: the M labels, in the order of every (B, M) array made from this dataset.
        prompts: texts by label, for the labels that do not use the default prompt.
        warnings: what a person should know, one sentence each.
    """

    samples: tuple[Sample, ...]
    label_set: tuple[str, ...]
    prompts: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def paths(self) -> list[Path]:
        return [sample.path for sample in self.samples]

    def has_split(self, split: str) -> bool:
        """Return whether a sample belongs to a split of that name."""
        return any(sample.split == split for sample in self.samples)

    def build_targets(self) -> tuple[Bools, Bools]:
        """Return (targets, ignored), both bool (images, M); ignored marks difficult labels.

        A label outside the label set has no column.
        """
        column = {label: m for m, label in enumerate(self.label_set)}
        targets = np.zeros((len(self.samples), len(self.label_set)), bool)
        ignored = np.zeros_like(targets)
        for n, sample in enumerate(self.samples):
            for flags, labels in ((targets, sample.labels), (ignored, sample.difficult)):
                flags[n, [column[label] for label in labels if label in column]] = True
        return targets, ignored

    def fingerprint(self) -> str:
        """Return a sha256 over file names, sizes and labels, independent of the folder."""
        digest = hashlib.sha256()
        for s in self.samples:
            line: Sequence[object] = (s.path.name, s.path.stat().st_size, s.labels, s.difficult)
            digest.update(repr(line).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
