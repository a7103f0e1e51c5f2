"""Two engines on the same images: what changed, by how much, and is it more than noise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from patchct_edge.arrays import Bools, Float32s, Float64s, Indices
from patchct_edge.bootstrap import bootstrap_intervals
from patchct_edge.bundle import Calibration
from patchct_edge.evaluation.predictions import Predictions
from patchct_edge.metrics import average_precisions, tag_flips

SHOWN = 10  # photos that changed most


@dataclass(frozen=True)
class LabelChange:
    """One label. `drop` is of its AP, 0..1, with the 95 % interval of the paired difference.

    `tags` counts the reference's, `flips` those that differ. `spread` is the standard deviation of
    the logits as a share of the reference's: scores that an engine squeezes together show here.
    """

    label: str
    drop: float
    low: float
    high: float
    tags: int
    flips: int
    spread: float


@dataclass(frozen=True)
class PhotoChange:
    """One photo with the tags of both; `index` is its row in either `Predictions`."""

    index: int
    path: str
    reference: tuple[str, ...]
    candidate: tuple[str, ...]
    truth: tuple[str, ...]
    largest: float  # difference of a score, 0..1


@dataclass(frozen=True)
class Comparison:
    """A candidate against a reference; `drop` is of mAP, with its paired 95 % interval."""

    drop: float
    low: float
    high: float
    flips: float  # share of tags, as `metrics.tag_flips`
    mean_difference: float  # of scores, 0..1
    max_difference: float
    labels: tuple[LabelChange, ...]
    photos: tuple[PhotoChange, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _ScoresAndTags:
    """What one side makes of the images: scores, float32 (N, M), and tags, bool (N, M)."""

    scores: Float32s
    tags: Bools

    @classmethod
    def of(cls, judged: Predictions, calibration: Calibration) -> _ScoresAndTags:
        scores = calibration.scores(judged.logits)
        return cls(scores, scores >= calibration.thresholds)


def compare_predictions(
    reference: Predictions, candidate: Predictions, before: Calibration, after: Calibration
) -> Comparison:
    """Compare two engines on the images that both could read.

    Args:
        before, after: the calibrations that reference and candidate ship with.

    Raises:
        ValueError: the two have not the same labels.
    """
    if reference.labels != candidate.labels:
        raise ValueError("the labels differ")
    reference, candidate = _aligned(reference, candidate)
    a, b = _ScoresAndTags.of(reference, before), _ScoresAndTags.of(candidate, after)
    logits = (reference.logits, candidate.logits)
    targets, ignored = reference.targets, reference.ignored

    def drops(rows: Indices) -> Float64s:
        """Return the drop of every label's AP, and of their mean, (M + 1,)."""
        aps = [average_precisions(each[rows], targets[rows], ignored[rows]) for each in logits]
        found = aps[0] - aps[1]
        mean = np.nanmean(found) if (~np.isnan(found)).any() else np.nan
        return np.append(found, mean)

    low, high = bootstrap_intervals(drops, len(targets))
    found = drops(np.arange(len(targets)))
    difference = np.abs(a.scores - b.scores)
    spreads = logits[1].std(0) / np.maximum(logits[0].std(0), 1e-12)
    return Comparison(
        drop=float(found[-1]),
        low=float(low[-1]),
        high=float(high[-1]),
        flips=tag_flips(a.tags, b.tags),
        mean_difference=float(difference.mean()),
        max_difference=float(difference.max()),
        labels=tuple(
            LabelChange(
                label,
                float(found[m]),
                float(low[m]),
                float(high[m]),
                int(a.tags[:, m].sum()),
                int((a.tags ^ b.tags)[:, m].sum()),
                float(spreads[m]),
            )
            for m, label in enumerate(reference.labels)
        ),
        photos=_changed_most(reference, a, b),
    )


def _aligned(a: Predictions, b: Predictions) -> tuple[Predictions, Predictions]:
    """Return both over the images that both have: a file may have gone in between."""
    if a.paths == b.paths:
        return a, b
    common = set(a.paths) & set(b.paths)
    return _only(a, common), _only(b, common)


def _only(judged: Predictions, paths: set[Any]) -> Predictions:
    rows = [n for n, path in enumerate(judged.paths) if path in paths]
    return Predictions(
        judged.record,
        judged.labels,
        tuple(judged.paths[n] for n in rows),
        judged.logits[rows],
        judged.targets[rows],
        judged.ignored[rows],
        judged.failed,
    )


def _changed_most(
    judged: Predictions, a: _ScoresAndTags, b: _ScoresAndTags
) -> tuple[PhotoChange, ...]:
    """Return the photos with most flips, among equals those whose scores moved furthest."""
    flips = (a.tags ^ b.tags).sum(1)
    largest = np.abs(a.scores - b.scores).max(1)
    order = np.lexsort((-largest, -flips))[:SHOWN]

    def names(flags: Bools) -> tuple[str, ...]:
        return tuple(label for label, flag in zip(judged.labels, flags, strict=True) if flag)

    return tuple(
        PhotoChange(
            int(n),
            str(judged.paths[n]),
            names(a.tags[n]),
            names(b.tags[n]),
            names(judged.targets[n]),
            float(largest[n]),
        )
        for n in order
    )
