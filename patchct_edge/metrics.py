"""Metrics of a multi-label tagger, in NumPy.

Written by hand because a device has no scikit-learn, which ignores no cells either; the tests
compare with it.

Everywhere, N images and M labels: `scores` float (N, M), `targets` bool (N, M), `ignored` bool
(N, M) or None. An ignored cell (a difficult object) counts neither as a hit nor as a miss. A metric
that is undefined because there is no positive is NaN. Arrays of different shapes, and scores that
are NaN or infinite, raise a ValueError: a broken engine must not pass as a slightly worse one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from patchct_edge.arrays import Bools, Float64s, Floats, Indices


def average_precision(scores: Floats, targets: Bools) -> float:
    """Return the average precision (AP) of one label, 0..1, from (N,) scores and targets."""
    return float(average_precisions(scores[:, None], targets[:, None])[0])


def average_precisions(scores: Floats, targets: Bools, ignored: Bools | None = None) -> Float64s:
    """Return the average precision (AP) of every label, float64 (M,), 0..1 or NaN.

    AP = sum_k (R_k - R_(k-1)) P_k over the distinct scores from the highest down, which is the area
    under the precision-recall curve without interpolation (scikit-learn's definition): images of
    equal score are accepted together.
    """
    counted = _check_cells(scores, targets, ignored)
    _, last, hits, predicted = _sweep(scores, targets & counted, counted)
    hits_so_far = np.maximum.accumulate(np.where(last, hits, 0), axis=1)
    gained = np.diff(hits_so_far, axis=1, prepend=0)  # nonzero only at the end of a run of ties
    area = (gained * (hits / np.maximum(predicted, 1))).sum(axis=1)
    return _ratio(area, (targets & counted).sum(axis=0))


def mean_average_precision(scores: Floats, targets: Bools, ignored: Bools | None = None) -> float:
    """Return the mean AP (mAP) over the labels that have a positive, 0..1, NaN if none has."""
    return _mean(average_precisions(scores, targets, ignored))


def precision_recall(scores: Floats, targets: Bools) -> tuple[Float64s, Float64s]:
    """Return precision and recall of one label, 0..1, at every distinct score, highest first.

    Scores and targets are (N,). Recall is NaN without positives.
    """
    _, last, hits, predicted = _sweep_one(scores, targets)
    hits, predicted = hits[last], predicted[last]
    return _ratio(hits, predicted), _ratio(hits, hits[-1])


@dataclass(frozen=True)
class MultiLabelFigures:
    """Precision, recall and F1 as papers on multi-label tagging print them, each 0..1 or NaN.

    `cp` and `cr` (per class) average over the labels, `op` and `or_` (overall) pool all cells.
    `cf1` and `of1` are the harmonic means 2PR / (P + R) of those averages, not averages of F1.
    """

    cp: float
    cr: float
    cf1: float
    op: float
    or_: float
    of1: float


def multi_label_figures(
    predictions: Bools, targets: Bools, ignored: Bools | None = None
) -> MultiLabelFigures:
    """Return CP, CR, CF1, OP, OR and OF1 of bool (N, M) predictions.

    The precision of a label that is never predicted is 0, as is customary. CP and CR average over
    the labels that have a positive, as mAP does. Papers divide by M, which is the same on their
    benchmarks, where every label has a positive. Here a label without positives costs nothing if
    it is never predicted, and its false positives still count in OP. Without any positive, all
    figures but OP are NaN.
    """
    counted = _check_cells(predictions, targets, ignored)
    predicted = (predictions & counted).sum(axis=0)
    positives = (targets & counted).sum(axis=0)
    hits = (predictions & targets & counted).sum(axis=0)
    cp = _mean((hits / np.maximum(predicted, 1))[positives > 0])
    cr = _mean(_ratio(hits, positives))
    op = float(hits.sum() / max(predicted.sum(), 1))
    or_ = float(_ratio(hits.sum(), positives.sum()))
    return MultiLabelFigures(cp, cr, _harmonic_mean(cp, cr), op, or_, _harmonic_mean(op, or_))


def top_k_predictions(scores: Floats, k: int = 3) -> Bools:
    """Return bool (N, M), True at the k highest scores of every image; ties go by label order.

    Papers disagree on top-3 figures: older ones take three labels whatever their scores (this
    function), later ones also apply the threshold (`top_k_predictions(s) & (s >= threshold)`).
    """
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    predictions = np.zeros(scores.shape, bool)
    np.put_along_axis(predictions, best, True, axis=1)
    return predictions


def expected_calibration_error(
    probabilities: Floats, targets: Bools, ignored: Bools | None = None, bins: int = 15
) -> float:
    """Return the expected calibration error (ECE) over all cells together, 0..1 or NaN.

    sum_b |B_b| / |cells| * |mean probability of B_b - share of positives in B_b| over bins of equal
    width in 0..1, 1.0 in the last (Guo et al., arXiv 1706.04599, eq. 3). With many labels most
    cells are clear negatives, so compare it between models on one dataset only.

    Args:
        probabilities: float (N, M), 0..1.

    Raises:
        ValueError: a probability outside 0..1.
    """
    counted = _check_cells(probabilities, targets, ignored)
    cells = probabilities[counted].astype(np.float64)
    if not cells.size:
        return float("nan")
    if cells.min() < 0 or cells.max() > 1:
        raise ValueError(f"probabilities within {cells.min()}..{cells.max()}, expected 0..1")
    bin_of = np.minimum((cells * bins).astype(np.intp), bins - 1)
    return float(np.abs(np.bincount(bin_of, cells - targets[counted])).sum() / cells.size)


def best_f1_threshold(scores: Floats, targets: Bools) -> tuple[float, float]:
    """Return (threshold, F1) with the highest F1 of `scores >= threshold`, from (N,) arrays.

    Among thresholds of equal F1 it is the highest. Both are NaN without positives.
    """
    if not targets.any():
        return float("nan"), float("nan")
    ranked, last, hits, predicted = _sweep_one(scores, targets)
    f1 = np.where(last, 2 * hits / (predicted + hits[-1]), 0)
    best = int(f1.argmax())
    return threshold_between(ranked, best), float(f1[best])


def precision_threshold(scores: Floats, targets: Bools, min_precision: float) -> float:
    """Return the threshold of highest recall whose precision is at least `min_precision`.

    Scores and targets are (N,). NaN without positives, and if no threshold has that precision.
    """
    ranked, last, hits, predicted = _sweep_one(scores, targets)
    reached = np.flatnonzero(last & (hits > 0) & (hits / predicted >= min_precision))
    return threshold_between(ranked, int(reached[-1])) if reached.size else float("nan")


def recall_threshold(scores: Floats, targets: Bools, min_recall: float) -> float:
    """Return the highest threshold whose recall is at least `min_recall`.

    Scores and targets are (N,). NaN without positives.
    """
    if not targets.any():
        return float("nan")
    ranked, last, hits, _ = _sweep_one(scores, targets)
    reached = np.flatnonzero(last & (hits / hits[-1] >= min_recall))
    return threshold_between(ranked, int(reached[0]))


def _sweep_one(scores: Floats, targets: Bools) -> tuple[Floats, Bools, Indices, Indices]:
    """Return the rows of `_sweep` for one label, from (N,) arrays."""
    scores, targets = scores[:, None], targets[:, None]
    ranked, last, hits, predicted = _sweep(scores, targets, _check_cells(scores, targets, None))
    return ranked[0], last[0], hits[0], predicted[0]


def threshold_between(ranked: Floats, n: int) -> float:
    """Return the threshold midway between ranked[n], which it accepts, and ranked[n + 1].

    The threshold that accepts every image is the lowest score.

    Args:
        ranked: scores from the highest down.
    """
    accepted, rejected = ranked[n], ranked[min(n + 1, len(ranked) - 1)]
    midway = accepted / 2 + rejected / 2
    # Two adjacent floats have no middle, and rounding down would accept the lower one.
    return float(midway if midway > rejected else accepted)


def tag_flips(tags_a: Bools, tags_b: Bools) -> float:
    """Return the tag flips from model A to model B, both bool (N, M): |A xor B| / |A|.

    A flip is a tag that B loses or adds; the figure is flips per tag of the reference A, and what
    this package means by flips everywhere. It is 0 if both are empty and above 1 if B differs in
    more tags than A has. An empty A counts as one tag, so that the figure stays finite.
    """
    _check_cells(tags_a, tags_b, None)
    return float((tags_a ^ tags_b).sum() / max(tags_a.sum(), 1))


def _check_cells(values: Floats | Bools, targets: Bools, ignored: Bools | None) -> Bools:
    """Check the arrays of a metric and return the cells that are not ignored."""
    ignored = np.zeros(targets.shape, bool) if ignored is None else ignored
    if not values.shape == targets.shape == ignored.shape:
        shapes = f"{values.shape}, {targets.shape}, {ignored.shape}"
        raise ValueError(f"scores, targets and ignored differ in shape: {shapes}")
    if not np.isfinite(values).all():
        raise ValueError("scores contain NaN or infinity")
    return ~ignored


def _sweep(
    scores: Floats, targets: Bools, counted: Bools
) -> tuple[Floats, Bools, Indices, Indices]:
    """Lower the threshold of every label over its scores.

    Returns four (M, N) arrays: the scores from the highest down; whether a score is the last of its
    ties, since a threshold can only lie there; and the hits and predictions down to there.
    """
    order = np.argsort(-scores.T, axis=1)
    ranked = np.take_along_axis(scores.T, order, axis=1)
    last = np.ones(ranked.shape, bool)
    last[:, :-1] = ranked[:, :-1] != ranked[:, 1:]
    hits = np.take_along_axis(targets.T, order, axis=1).cumsum(axis=1, dtype=np.intp)
    predicted = np.take_along_axis(counted.T, order, axis=1).cumsum(axis=1, dtype=np.intp)
    return ranked, last, hits, predicted


def _ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Float64s:
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of an undefined figure
        return np.asarray(np.true_divide(part, whole), np.float64)


def _mean(figures: Floats) -> float:
    defined = figures[~np.isnan(figures)]
    return float(defined.mean()) if defined.size else float("nan")


def _harmonic_mean(a: float, b: float) -> float:
    return 0.0 if a + b == 0 else 2 * a * b / (a + b)
