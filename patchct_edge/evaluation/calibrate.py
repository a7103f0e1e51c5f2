"""Calibrate a bundle: every precision that runs here, the most exact one first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from patchct_edge.bundle import Bundle
from patchct_edge.datasets import Dataset
from patchct_edge.evaluation.calibration_fit import CalibrationFit, ReferenceTags, fit_to_reference
from patchct_edge.evaluation.objective import Objective
from patchct_edge.evaluation.predictions import Predictions, check_labels, open_and_predict
from patchct_edge.evaluation.reliability import Reliability, measure_reliability
from patchct_edge.progress import NO_PROGRESS, Progress
from patchct_edge.runtime.engines.select import (
    ANY_ENGINE,
    Candidate,
    EngineRequest,
    iter_candidates,
    runnable_candidates,
    skipped_candidates,
)

BEST_F1 = Objective()


@dataclass(frozen=True, eq=False)
class PrecisionCalibration:
    """The calibration of one precision, and what it is worth."""

    predictions: Predictions
    fit: CalibrationFit
    reliability: Reliability


@dataclass(frozen=True, eq=False)
class CalibrationResult:
    """The outcome of `calibrate_bundle`.

    Args:
        calibrations: by precision, most exact first.
        records: by precision, the fields that calibration.json now holds.
        unreadable: one error, which names the path, for each image that could not be read.
        skipped: engines that were not calibrated, with the reason, where their precision was not.
        retained_precisions: skipped precisions that keep an earlier calibration.
    """

    calibrations: dict[str, PrecisionCalibration]
    records: dict[str, dict[str, Any]]
    unreadable: tuple[str, ...]
    skipped: tuple[Candidate, ...]
    retained_precisions: tuple[str, ...]


def calibrate_bundle(
    bundle: Bundle,
    dataset: Dataset,
    objective: Objective = BEST_F1,
    *,
    request: EngineRequest = ANY_ENGINE,
    progress: Progress = NO_PROGRESS,
) -> CalibrationResult:
    """Fit scores and thresholds on labeled images and store them in the bundle.

    Each precision runs in its fastest engine. The most exact precision is scored first, whether or
    not it was requested, and the others take thresholds that tag as many images as it does. Nothing
    is stored unless every precision could be calibrated; precisions that were not keep theirs.

    Args:
        dataset: read with `labels=bundle.labels`.
        request: limits the engines or precisions; all that run here by default.

    Raises:
        UserError: the dataset cannot be used to calibrate.
        EngineError: no engine runs here, or one returned NaN or infinite scores.
    """
    check_labels(bundle, dataset)
    requested = _fastest_by_precision(runnable_candidates(bundle, request))
    candidates = list(iter_candidates(bundle, replace(request, precision=None)))
    runnable = _fastest_by_precision([c for c in candidates if c.skip_reason is None]) | requested
    most_exact = next(p for p in bundle.precisions() if p in runnable)
    calibrations: dict[str, PrecisionCalibration] = {}
    unreadable: dict[str, None] = {}  # keeps the order, and each line once
    reference: ReferenceTags | None = None
    for precision in bundle.precisions():
        if precision != most_exact and precision not in requested:
            continue
        engine = replace(request, engine=runnable[precision].engine, precision=precision)
        advance = progress.stage(f"scoring, {precision}", len(dataset))
        predictions = open_and_predict(bundle, dataset, engine, advance)
        unreadable.update(dict.fromkeys(predictions.unreadable))
        fit = fit_to_reference(predictions, objective, reference)
        reference = reference or ReferenceTags.from_predictions(predictions, fit.calibration)
        if precision in requested:
            reliability = measure_reliability(predictions, fit, objective)
            calibrations[precision] = PrecisionCalibration(predictions, fit, reliability)
    skipped = tuple(
        candidate
        for candidate in skipped_candidates(candidates, request)
        if candidate.precision in bundle.precisions() and candidate.precision not in calibrations
    )
    skipped_precisions = dict.fromkeys(candidate.precision for candidate in skipped)
    records = {
        precision: _make_record(calibration, objective, dataset)
        for precision, calibration in calibrations.items()
    }
    stored = bundle.store_calibrations(records)  # `bundle` has the hash of the earlier file
    return CalibrationResult(
        calibrations,
        records,
        tuple(unreadable),
        skipped,
        tuple(p for p in skipped_precisions if stored.calibration_record(p) is not None),
    )


def _fastest_by_precision(candidates: list[Candidate]) -> dict[str, Candidate]:
    """Return the fastest engine of each precision; candidates come fastest first."""
    return {candidate.precision: candidate for candidate in reversed(candidates)}


def _make_record(
    calibration: PrecisionCalibration, objective: Objective, dataset: Dataset
) -> dict[str, Any]:
    """Return the fields of one precision in calibration.json."""
    predictions, fit = calibration.predictions, calibration.fit
    return {
        **fit.calibration.to_json(predictions.labels),
        "objective": str(objective),
        "pooled": [predictions.labels[m] for m in fit.pooled],
        "engine": predictions.record.to_json(),
        "dataset_fingerprint": dataset.fingerprint(),
        "images": len(predictions.paths),
    }
