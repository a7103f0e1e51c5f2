"""The gates of a report: may the candidate ship, and which labels suffer?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from patchct_edge.evaluation.comparison import Comparison, LabelChange
from patchct_edge.report.engine_report import EngineReport

AP_DROP = 0.05  # of a label, by the near end of its interval
FLIPS, SHARE = 5, 0.25  # of a label's tags, at least so many and more than that share
SPREAD = (0.5, 2.0)  # of a label's logits, against the reference's


@dataclass(frozen=True)
class Limits:
    """What a candidate may cost; None where nothing was asked for.

    Args:
        map_drop: of mAP against the reference, 0..1.
        flips: share of tags that change.
        latency_ms: the 95th percentile of one photo, from file to tags.
        memory_mb: peak of a process that tags.
    """

    map_drop: float = 0.005
    flips: float = 0.03
    latency_ms: float | None = None
    memory_mb: float | None = None


@dataclass(frozen=True)
class Gate:
    """One question, and its answer in words."""

    name: str
    passed: bool
    text: str


def check_gates(
    candidate: EngineReport, reference: EngineReport, change: Comparison | None, limits: Limits
) -> tuple[Gate, ...]:
    """Judge a candidate.

    Args:
        change: against the reference; None where the candidate is the reference.
    """
    return tuple(_gates(candidate, reference, change, limits))


def _gates(
    candidate: EngineReport, reference: EngineReport, change: Comparison | None, limits: Limits
) -> Iterator[Gate]:
    if change is not None:
        yield _map_gate(change, limits)
        if candidate.same_model:
            yield Gate(
                "Tag flips",
                change.flips <= limits.flips,
                f"{change.flips:.2%} of the tags change; at most {limits.flips:.2%} may."
                + _unlike_calibrations(candidate, reference),
            )
        damaged = [
            f"{each.label} ({why})"
            for each in change.labels
            if (why := describe_damage(each, candidate.same_model))
        ]
        text = f"Damaged: {'; '.join(damaged)}." if damaged else "No label is damaged."
        yield Gate("Labels", not damaged, text)
    if limits.latency_ms is not None:
        p95 = candidate.latency.stages["total"].p95
        yield Gate(
            "Latency",
            p95 <= limits.latency_ms,
            f"One photo takes {p95:.1f} ms at the 95th percentile, from file to tags; at most "
            f"{limits.latency_ms:g} ms may be taken.",
        )
    if limits.memory_mb is not None:
        peak = candidate.cold_start.peak_mb
        yield Gate(
            "Memory",
            peak <= limits.memory_mb,
            f"A process that tags holds up to {peak:.0f} MB; at most {limits.memory_mb:g} MB may "
            "be held.",
        )


def describe_damage(label: LabelChange, same_model: bool) -> str | None:
    """Say what is wrong with a label, beyond noise; None where nothing is.

    Args:
        same_model: two precisions of one model; another model may tag otherwise and be right.
    """
    if label.low > AP_DROP:
        return (
            f"AP falls by {100 * label.drop:.1f} points, 95 % interval "
            f"{100 * label.low:.1f}..{100 * label.high:.1f}"
        )
    if not same_model:
        return None
    if not SPREAD[0] <= label.spread <= SPREAD[1]:
        return f"its scores have {label.spread:.2g} times the spread that they had"
    if label.flips >= FLIPS and label.flips > SHARE * label.tags:
        return f"{label.flips} tags change where there were {label.tags}"
    return None


def _unlike_calibrations(candidate: EngineReport, reference: EngineReport) -> str:
    """Say where tags change because the thresholds of two precisions are not of one kind."""
    if candidate.calibrated_on == reference.calibrated_on:
        one_kind = candidate.judged.record.precision == reference.judged.record.precision
        if candidate.model == reference.model and one_kind:
            return " Model and precision are the same: only the thresholds can differ."
        return ""
    for one, other in ((candidate, reference), (reference, candidate)):
        if one.calibrated_on is None:
            precision = one.judged.record.precision
            return (
                f" {one.name} is not calibrated, {other.name} is: first run patchct calibrate "
                f"{one.bundle} DATA --precision {precision}."
            )
    return f" {candidate.name} was calibrated on other data than {reference.name}."


def _map_gate(change: Comparison, limits: Limits) -> Gate:
    passed = change.drop <= limits.map_drop
    drop, low, high = (round(100 * each, 2) for each in (change.drop, change.low, change.high))
    if drop > 0:
        moved = f"falls by {drop:.2f} points"
    elif drop < 0:
        moved = f"does not fall (it rises by {-drop:.2f} points)"
    else:
        moved = "does not change"
    text = (
        f"mAP {moved}; 95 % interval of the difference {0 - high:+.2f}..{0 - low:+.2f}. At most "
        f"{100 * limits.map_drop:g} points may be lost."
    )
    if passed and change.high > limits.map_drop:
        text += " So few images do not rule out a larger loss."
    elif not passed and change.low <= limits.map_drop:
        text += " So few images do not rule out a smaller loss either."
    return Gate("mAP", passed, text)
