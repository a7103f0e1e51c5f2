"""Figures of a multi-label tagger, in NumPy.

Throughout, N images and M labels: `scores` float (N, M), `targets` bool (N, M), `ignored` bool
(N, M) or None. An ignored cell (a difficult object) counts neither as a hit nor as a miss. A figure
that is undefined, for want of a positive, is NaN. Arrays of differing shapes and scores that are
not finite are a ValueError: a broken engine must not pass as a slightly worse one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from patchct_edge.arrays import Bools, Float64s, Floats, Indices


def average_precision(scores: Floats, targets: Bools) -> float:
    """Return the AP of one label, 0..1, from (N,) scores and targets: see `average_precisions`."""
    return float(average_precisions(scores[:, None], targets[:, None])[0])


def average_precisions(scores: Floats, targets: Bools, ignored: Bools | None = None) -> Float64s:
    """Return the AP of every label, float64 (M,), 0..1, NaN for a label without positives.

    AP = sum_k (R_k - R_(k-1)) P_k over the distinct scores from the highest down, which is the area
    under the precision-recall curve without interpolation (scikit-learn's definition): cells of
    equal score are accepted together.
    """
    counted = _counted(scores, targets, ignored)
    _, last, hits, predicted = _sweep(scores, targets & counted, counted)
    hits_so_far = np.maximum.accumulate(np.where(last, hits, 0), axis=1)
    gained = np.diff(hits_so_far, axis=1, prepend=0)  # nonzero only at the end of a run of ties
    area = (gained * (hits / np.maximum(predicted, 1))).sum(axis=1)
    return _ratio(area, (targets & counted).sum(axis=0))


def mean_average_precision(scores: Floats, targets: Bools, ignored: Bools | None = None) -> float:
    """Return the mean AP over the labels that have a positive, 0..1, NaN where none has."""
    return _mean(average_precisions(scores, targets, ignored))


def precision_recall(scores: Floats, targets: Bools) -> tuple[Float64s, Float64s]:
    """Return precision and recall, 0..1, at every distinct score of (N,), from the highest down.

    NaN recall without positives.
    """
    _, last, hits, predicted = _sweep_one(scores, targets)
    hits, predicted = hits[last], predicted[last]
    return _ratio(hits, predicted), _ratio(hits, hits[-1])


@dataclass(frozen=True)
class MultiLabelFigures:
    """Precision, recall and F1 as multi-label papers print them, each 0..1 or NaN.

    `cp` and `cr` average over labels and `op` and `or_` pool all cells; `cf1` and `of1` are the
    harmonic means 2PR / (P + R) of those averages, not averages of F1.
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

    Precision is 0 where nothing is predicted, as is customary. CP and CR average over the labels
    that have a positive, as mAP does. Papers divide by M, which is the same on their benchmarks,
    where every label has one; here a rare label that is rightly never predicted costs nothing, and
    its false alarms still count in OP. Without any positive all figures but OP are NaN.
    """
    counted = _counted(predictions, targets, ignored)
    predicted = (predictions & counted).sum(axis=0)
    positives = (targets & counted).sum(axis=0)
    hits = (predictions & targets & counted).sum(axis=0)
    cp = _mean((hits / np.maximum(predicted, 1))[positives > 0])
    cr = _mean(_ratio(hits, positives))
    op = float(hits.sum() / max(predicted.sum(), 1))
    or_ = float(_ratio(hits.sum(), positives.sum()))
    return MultiLabelFigures(cp, cr, _harmonic_mean(cp, cr), op, or_, _harmonic_mean(op, or_))


def top_k_predictions(scores: Floats, k: int = 3) -> Bools:
    """Return bool (N, M), True at the k highest scores of every image, ties by label order.

    Papers disagree on top-3 figures: the older take the three labels whatever their scores (this
    function), later ones also ask for the threshold (`top_k_predictions(s) & (s >= threshold)`).
    """
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    predictions = np.zeros(scores.shape, bool)
    np.put_along_axis(predictions, best, True, axis=1)
    return predictions


def expected_calibration_error(
    probabilities: Floats, targets: Bools, ignored: Bools | None = None, bins: int = 15
) -> float:
    """Return the ECE of (N, M) probabilities over all cells together, 0..1, NaN without cells.

    sum_b |B_b| / |cells| * |mean probability of B_b - share of positives in B_b| over equal-width
    bins of 0..1 (Guo et al., arXiv 1706.04599, eq. 3), 1.0 in the last. With many labels most cells
    are clear negatives, so compare it between models of one data set only.

    Raises:
        ValueError: a probability outside 0..1.
    """
    counted = _counted(probabilities, targets, ignored)
    cells = probabilities[counted].astype(np.float64)
    if not cells.size:
        return float("nan")
    if cells.min() < 0 or cells.max() > 1:
        raise ValueError(f"probabilities within {cells.min()}..{cells.max()}, expected 0..1")
    bin_of = np.minimum((cells * bins).astype(np.intp), bins - 1)
    return float(np.abs(np.bincount(bin_of, cells - targets[counted])).sum() / cells.size)


def best_f1_threshold(scores: Floats, targets: Bools) -> tuple[float, float]:
    """Return (threshold, F1) of the highest F1 of `scores >= threshold`, from (N,) arrays.

    Of equal F1 the highest threshold. Both are NaN without positives.
    """
    if not targets.any():
        return float("nan"), float("nan")
    ranked, last, hits, predicted = _sweep_one(scores, targets)
    f1 = np.where(last, 2 * hits / (predicted + hits[-1]), 0)
    best = int(f1.argmax())
    return threshold_after(ranked, best), float(f1[best])


def precision_threshold(scores: Floats, targets: Bools, wanted: float) -> float:
    """Return the lowest threshold, of the most recall, whose precision is at least `wanted`.

    From (N,) arrays. NaN without positives, and where no threshold has that precision.
    """
    ranked, last, hits, predicted = _sweep_one(scores, targets)
    reached = np.flatnonzero(last & (hits > 0) & (hits / predicted >= wanted))
    return threshold_after(ranked, int(reached[-1])) if reached.size else float("nan")


def recall_threshold(scores: Floats, targets: Bools, wanted: float) -> float:
    """Return the highest threshold, of the most precision, whose recall is at least `wanted`.

    From (N,) arrays. NaN without positives.
    """
    if not targets.any():
        return float("nan")
    ranked, last, hits, _ = _sweep_one(scores, targets)
    reached = np.flatnonzero(last & (hits / hits[-1] >= wanted))
    return threshold_after(ranked, int(reached[0]))


def _sweep_one(scores: Floats, targets: Bools) -> tuple[Floats, Bools, Indices, Indices]:
    """Return the rows of `_sweep` for one label, from (N,) arrays."""
    scores, targets = scores[:, None], targets[:, None]
    ranked, last, hits, predicted = _sweep(scores, targets, _counted(scores, targets, None))
    return ranked[0], last[0], hits[0], predicted[0]


def threshold_after(ranked: Floats, n: int) -> float:
    """Return the threshold that accepts ranked[n] and rejects ranked[n + 1], midway between them.

    The lowest score is itself the threshold that accepts every image.
    """
    accepted, rejected = ranked[n], ranked[min(n + 1, len(ranked) - 1)]
    midway = accepted / 2 + rejected / 2
    # Between two adjacent floats there is no middle, and rounding could let the lower one in.
    return float(midway if midway > rejected else accepted)


def bootstrap_interval(
    statistic: Callable[[Indices], float],
    n: int,
    *,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> tuple[float, float]:
    """Return the bootstrap interval (low, high) of a statistic of n images.

    The percentiles of the resamples, moved so that their median lies on the figure itself: a
    resample doubles some images, which raises the AP of a label with few positives, in nearly every
    resample; the spread is meant, not that.

    Args:
        statistic: takes n row indices, int (n,) drawn with replacement, and returns the figure of
            those rows. For the difference of two models index both with the same rows: the interval
            of a paired difference is far narrower than the two intervals suggest.
        level: the share of the distribution that lies inside, 0..1.
        bounds: the least and the most that the figure can be.

    A NaN (say, a sample without positives) is skipped; both ends are NaN where all are.
    """
    low, high = bootstrap_intervals(
        lambda rows: np.array([statistic(rows)]), n, samples=samples, level=level, seed=seed
    )
    (low,), (high,) = np.clip((low, high), *bounds)
    return float(low), float(high)


def bootstrap_intervals(
    statistic: Callable[[Indices], Float64s],
    n: int,
    *,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Float64s, Float64s]:
    """Return the intervals of several figures of the same resamples, both ends float64 (figures,).

    As `bootstrap_interval`, of a statistic that returns float64 (figures,).
    """
    rng = np.random.default_rng(seed)
    figures = np.stack([statistic(rng.integers(n, size=n)) for _ in range(samples)])
    value = statistic(np.arange(n))
    low, high = np.full(len(value), np.nan), np.full(len(value), np.nan)
    for m in np.flatnonzero((~np.isnan(figures)).any(0)):
        known = figures[~np.isnan(figures[:, m]), m]
        low[m], middle, high[m] = np.quantile(known, [(1 - level) / 2, 0.5, (1 + level) / 2])
        shift = 0.0 if np.isnan(value[m]) else value[m] - middle
        low[m], high[m] = low[m] + shift, high[m] + shift
    return low, high


def tag_flips(tags_a: Bools, tags_b: Bools) -> float:
    """Return the share of tag flips from model A to model B, both bool (N, M): |A xor B| / |A|.

    This is the definition wherever the package speaks of tag flips: tags lost and tags added, per
    tag of the reference A. 0 where both are empty; above 1 where B adds more than A had; an empty A
    is taken as one tag, so that the figure stays finite.
    """
    _counted(tags_a, tags_b, None)
    return float((tags_a ^ tags_b).sum() / max(tags_a.sum(), 1))


def _counted(values: Floats | Bools, targets: Bools, ignored: Bools | None) -> Bools:
    """Check the arrays of a figure and return the cells that count."""
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
    ties, the only places where a threshold can lie; and the hits and predictions down to there.
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
    known = figures[~np.isnan(figures)]
    return float(known.mean()) if known.size else float("nan")


def _harmonic_mean(a: float, b: float) -> float:
    return 0.0 if a + b == 0 else 2 * a * b / (a + b)
