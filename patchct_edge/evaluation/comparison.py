"""Two engines on the same images: what changed, by how much, and whether it is more than noise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from patchct_edge.arrays import Bools, Float32s, Float64s, Indices
from patchct_edge.bootstrap import bootstrap_intervals
from patchct_edge.bundle import Calibration
from patchct_edge.evaluation.predictions import Predictions
from patchct_edge.metrics import average_precisions, tag_flips

MAX_CHANGED_PHOTOS = 10


@dataclass(frozen=True)
class LabelChange:
    """The change of one label.

    Args:
        ap_drop: reference AP minus candidate AP, -1..1; NaN where the label has no positive.
        ap_drop_low, ap_drop_high: the 95% interval of that paired difference.
        reference_tags: images that the reference tags with the label.
        flips: images where the two disagree about the label.
        logit_spread: standard deviation of the candidate's logits over the reference's: below 1
            where an engine squeezes scores together.
    """

    label: str
    ap_drop: float
    ap_drop_low: float
    ap_drop_high: float
    reference_tags: int
    flips: int
    logit_spread: float


@dataclass(frozen=True)
class PhotoChange:
    """One photo with the tags of both engines.

    Args:
        index: row in either `Predictions`.
        max_difference: largest difference of a score, 0..1.
    """

    index: int
    path: str
    reference_tags: tuple[str, ...]
    candidate_tags: tuple[str, ...]
    true_labels: tuple[str, ...]
    max_difference: float


@dataclass(frozen=True)
class Comparison:
    """A candidate beside a reference.

    Args:
        map_drop: reference mAP minus candidate mAP, -1..1.
        map_drop_low, map_drop_high: the 95% interval of that paired difference.
        flips: tags that appear or vanish, per tag of the reference; see `metrics.tag_flips`.
        mean_difference, max_difference: of scores, 0..1.
        photos: those that changed most, at most `MAX_CHANGED_PHOTOS`.
    """

    map_drop: float
    map_drop_low: float
    map_drop_high: float
    flips: float
    mean_difference: float
    max_difference: float
    labels: tuple[LabelChange, ...]
    photos: tuple[PhotoChange, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class _ScoredTags(NamedTuple):
    """The scores of one engine, float32 (N, M), and its tags, bool (N, M)."""

    scores: Float32s
    tags: Bools

    @classmethod
    def from_predictions(cls, predictions: Predictions, calibration: Calibration) -> _ScoredTags:
        scores = calibration.scores(predictions.logits)
        return cls(scores, scores >= calibration.thresholds)


def compare_predictions(
    reference: Predictions,
    candidate: Predictions,
    reference_calibration: Calibration,
    candidate_calibration: Calibration,
) -> Comparison:
    """Compare two engines on the images that both could read.

    Raises:
        ValueError: the label sets differ.
    """
    if reference.labels != candidate.labels:
        raise ValueError(f"the labels differ: {reference.labels} and {candidate.labels}")
    if reference.paths != candidate.paths:  # a file was removed between the two runs
        common = set(reference.paths) & set(candidate.paths)
        reference, candidate = reference.restrict_to(common), candidate.restrict_to(common)
    before = _ScoredTags.from_predictions(reference, reference_calibration)
    after = _ScoredTags.from_predictions(candidate, candidate_calibration)
    drops = compute_ap_drops(reference, candidate, np.arange(len(reference.paths)))
    lows, highs = bootstrap_intervals(
        lambda rows: compute_ap_drops(reference, candidate, rows), len(reference.paths)
    )
    differences, flips = np.abs(before.scores - after.scores), before.tags ^ after.tags
    spreads = candidate.logits.std(0) / np.maximum(reference.logits.std(0), 1e-12)
    return Comparison(
        map_drop=float(drops[-1]),
        map_drop_low=float(lows[-1]),
        map_drop_high=float(highs[-1]),
        flips=tag_flips(before.tags, after.tags),
        mean_difference=float(differences.mean()),
        max_difference=float(differences.max()),
        labels=tuple(
            LabelChange(
                label,
                float(drops[m]),
                float(lows[m]),
                float(highs[m]),
                int(before.tags[:, m].sum()),
                int(flips[:, m].sum()),
                float(spreads[m]),
            )
            for m, label in enumerate(reference.labels)
        ),
        photos=_list_changed_photos(reference, before, after),
    )


def compute_ap_drops(reference: Predictions, candidate: Predictions, rows: Indices) -> Float64s:
    """Return the drop of every label's AP on some images, and of their mean: float64 (M + 1,)."""
    targets, ignored = reference.targets[rows], reference.ignored[rows]
    before, after = (
        average_precisions(predictions.logits[rows], targets, ignored)
        for predictions in (reference, candidate)
    )
    drops = before - after
    mean = np.nanmean(drops) if (~np.isnan(drops)).any() else np.nan
    return np.append(drops, mean)


def _list_changed_photos(
    reference: Predictions, before: _ScoredTags, after: _ScoredTags
) -> tuple[PhotoChange, ...]:
    """List the photos with the most flips; among equals, the largest difference first."""
    flips = (before.tags ^ after.tags).sum(1)
    max_differences = np.abs(before.scores - after.scores).max(1)
    order = np.lexsort((-max_differences, -flips))[:MAX_CHANGED_PHOTOS]

    def name_labels(flags: Bools) -> tuple[str, ...]:
        return tuple(label for label, flag in zip(reference.labels, flags, strict=True) if flag)

    return tuple(
        PhotoChange(
            int(row),
            str(reference.paths[row]),
            name_labels(before.tags[row]),
            name_labels(after.tags[row]),
            name_labels(reference.targets[row]),
            float(max_differences[row]),
        )
        for row in order
    )
