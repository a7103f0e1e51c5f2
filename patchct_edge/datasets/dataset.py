"""What every reader returns: samples and the set that holds them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from patchct_edge.arrays import Bools


@dataclass(frozen=True)
class Sample:
    """One image of a data set.

    `labels` holds every label of the image, the difficult ones included; `difficult` is the subset
    that is present only as difficult objects (masked in the loss, left out of that label's AP).
    `split` is None where the data set names no split. `row` is where the sample stands in its file.
    """

    path: Path
    labels: tuple[str, ...]
    difficult: tuple[str, ...] = ()
    split: str | None = None
    row: int | None = None


@dataclass(frozen=True)
class Dataset:
    """Samples with their label set, in file order.

    `label_set` is the order of every (B, M) array made from this set. `prompts` holds the texts of
    the labels that have one of their own. `warnings` are for a person, one sentence each.
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
        return any(sample.split == split for sample in self.samples)

    def targets(self) -> tuple[Bools, Bools]:
        """Return (targets, ignored), both bool (images, M); ignored marks difficult labels.

        A label outside the label set has no column and is left out.
        """
        column = {label: m for m, label in enumerate(self.label_set)}
        targets = np.zeros((len(self.samples), len(self.label_set)), bool)
        ignored = np.zeros_like(targets)
        for n, sample in enumerate(self.samples):
            for flags, labels in ((targets, sample.labels), (ignored, sample.difficult)):
                flags[n, [column[label] for label in labels if label in column]] = True
        return targets, ignored

    def fingerprint(self) -> str:
        """Return a sha256 over names, sizes and labels, the same wherever the folder lies."""
        digest = hashlib.sha256()
        for s in self.samples:
            line: Sequence[object] = (s.path.name, s.path.stat().st_size, s.labels, s.difficult)
            digest.update(repr(line).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
