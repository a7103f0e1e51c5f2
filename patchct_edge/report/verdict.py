"""Whether the candidate of a report may ship, and which labels it damages."""

from __future__ import annotations

from collections.abc import Iterator

from patchct_edge.evaluation.comparison import Comparison, LabelChange
from patchct_edge.evaluation.gates import (
    LABEL_SPREAD_RANGE,
    MAX_LABEL_AP_DROP,
    MAX_LABEL_FLIPS,
    MIN_LABEL_FLIPS,
    GateResult,
    Gates,
)
from patchct_edge.report.engine_report import EngineReport


def check_gates(
    candidate: EngineReport, reference: EngineReport, change: Comparison | None, gates: Gates
) -> tuple[GateResult, ...]:
    """Check a candidate against every gate that applies to it.

    Args:
        change: against the reference; None where the candidate is the reference.
    """
    return tuple(_apply_gates(candidate, reference, change, gates))


def _apply_gates(
    candidate: EngineReport, reference: EngineReport, change: Comparison | None, gates: Gates
) -> Iterator[GateResult]:
    if change is not None:
        yield _check_map_drop(change, gates.max_map_drop)
        if candidate.same_model:
            yield GateResult(
                "Tag flips",
                change.flips <= gates.max_flips / 100,
                f"{change.flips:.2%} of the tags change; the limit is {gates.max_flips:g}%."
                + _explain_calibrations(candidate, reference),
            )
        yield _check_labels(change, same_model=candidate.same_model)
    if gates.max_latency_ms is not None:
        p95_ms = candidate.latency.stages["total"].p95
        yield GateResult(
            "Latency",
            p95_ms <= gates.max_latency_ms,
            f"One photo takes {p95_ms:.1f} ms at the 95th percentile, from file to tags; the limit "
            f"is {gates.max_latency_ms:g} ms.",
        )
    if gates.max_memory_mb is not None:
        peak_mb = candidate.cold_start.peak_mb
        yield GateResult(
            "Memory",
            peak_mb <= gates.max_memory_mb,
            f"A process that tags uses up to {peak_mb:.0f} MB; the limit is "
            f"{gates.max_memory_mb:g} MB.",
        )


def _check_map_drop(change: Comparison, max_map_drop: float) -> GateResult:
    """Check the mAP drop against a limit in points of 0..100."""
    limit = max_map_drop / 100
    passed = change.map_drop <= limit
    drop, low, high = (
        round(100 * share, 2)
        for share in (change.map_drop, change.map_drop_low, change.map_drop_high)
    )
    if drop > 0:
        movement = f"falls by {drop:.2f} points"
    elif drop < 0:
        movement = f"does not fall (it rises by {-drop:.2f} points)"
    else:
        movement = "does not change"
    text = (
        f"mAP {movement}; 95% interval of the difference {0 - high:+.2f}..{0 - low:+.2f}. "
        f"The limit is a drop of {max_map_drop:g} points."
    )
    if passed and change.map_drop_high > limit:
        text += " There are too few images to rule out a larger drop."
    elif not passed and change.map_drop_low <= limit:
        text += " There are too few images to rule out a smaller drop."
    return GateResult("mAP", passed, text)


def _check_labels(change: Comparison, *, same_model: bool) -> GateResult:
    damages = [
        f"{label.label} ({damage})"
        for label in change.labels
        if (damage := describe_damage(label, same_model))
    ]
    text = f"Damaged: {'; '.join(damages)}." if damages else "No label is damaged."
    return GateResult("Labels", not damages, text)


def describe_damage(label: LabelChange, same_model: bool) -> str | None:
    """Describe what is wrong with a label beyond noise; None where nothing is.

    Args:
        same_model: whether both are precisions of one model; another model may tag differently and
            be right.
    """
    if label.ap_drop_low > MAX_LABEL_AP_DROP / 100:
        return (
            f"AP falls by {100 * label.ap_drop:.1f} points, 95% interval "
            f"{100 * label.ap_drop_low:.1f}..{100 * label.ap_drop_high:.1f}"
        )
    if not same_model:
        return None
    lowest, highest = LABEL_SPREAD_RANGE
    if not lowest <= label.logit_spread <= highest:
        return f"the spread of its scores is {label.logit_spread:.2g} times the reference's"
    if (
        label.flips >= MIN_LABEL_FLIPS
        and label.flips > MAX_LABEL_FLIPS / 100 * label.reference_tags
    ):
        return f"{label.flips} tags change where the reference has {label.reference_tags}"
    return None


def _explain_calibrations(candidate: EngineReport, reference: EngineReport) -> str:
    """Explain flips that come from two calibrations which cannot be compared."""
    if candidate.calibrated_on == reference.calibrated_on:
        same_precision = candidate.record.precision == reference.record.precision
        if candidate.model == reference.model and same_precision:
            return " Model and precision are the same: only the thresholds can differ."
        return ""
    for one, other in ((candidate, reference), (reference, candidate)):
        if one.calibrated_on is None:
            return (
                f" {one.name} is not calibrated, {other.name} is: first run patchct calibrate "
                f"{one.bundle} DATA --precision {one.record.precision}."
            )
    return f" {candidate.name} was calibrated on other data than {reference.name}."
