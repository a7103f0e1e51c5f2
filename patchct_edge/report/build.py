"""Build a report: measure, compare and calibrate the engines, and check them against the gates."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import NamedTuple

from patchct_edge.bundle import Bundle
from patchct_edge.bundle.precisions import PRECISIONS
from patchct_edge.datasets import Boxes, Dataset
from patchct_edge.errors import UserError
from patchct_edge.evaluation.calibration_fit import ReferenceTags, fit_to_reference
from patchct_edge.evaluation.comparison import compare_predictions
from patchct_edge.evaluation.curves import compute_curves
from patchct_edge.evaluation.gates import Gates
from patchct_edge.evaluation.objective import Objective
from patchct_edge.evaluation.predictions import check_labels
from patchct_edge.evaluation.reliability import Reliability, measure_reliability
from patchct_edge.profiling.machine import describe_machine
from patchct_edge.progress import NO_PROGRESS, Progress
from patchct_edge.report.engine_report import EngineReport, measure_engine
from patchct_edge.report.report import Report, ReportDataset
from patchct_edge.report.verdict import check_gates
from patchct_edge.runtime.engines.select import (
    ANY_ENGINE,
    Candidate,
    EngineRequest,
    iter_candidates,
    runnable_candidates,
    skipped_candidates,
)

DEFAULT_GATES = Gates()


def build_report(
    bundle: Bundle,
    dataset: Dataset,
    *,
    old: Bundle | None = None,
    boxes: Boxes | None = None,
    request: EngineRequest = ANY_ENGINE,
    gates: Gates = DEFAULT_GATES,
    command: str = "",
    progress: Progress = NO_PROGRESS,
) -> Report:
    """Measure a bundle and check it against the gates.

    Every engine that runs here is measured. The one that the other commands would choose is checked
    against the most exact one. With an `old` bundle, each of the two is measured with the engine
    that the other commands would choose, and the new one is checked against the old.

    Args:
        dataset: read with `labels=bundle.labels`.
        old: has the same labels.
        boxes: of the objects; the pointing game is played with them.
        request: names an engine or a precision to check instead.
        command: shown in the report.

    Raises:
        UserError, EngineError: nothing can be measured, or the labels differ.
    """
    check_labels(bundle, dataset)
    if old is None:
        measurements = _measure_all_engines(bundle, dataset, boxes, request, progress)
    else:
        measurements = _measure_both_bundles(old, bundle, dataset, boxes, request, progress)
    return _assemble_report(command, dataset, measurements, gates)


class _Measurements(NamedTuple):
    """The engines of a report; the indices are into `engines`."""

    engines: tuple[EngineReport, ...]
    skipped: tuple[Candidate, ...]
    reference_index: int
    candidate_index: int


def _measure_all_engines(
    bundle: Bundle,
    dataset: Dataset,
    boxes: Boxes | None,
    request: EngineRequest,
    progress: Progress,
) -> _Measurements:
    """Measure every engine that runs here; the reference is the most exact one."""
    preferred = runnable_candidates(bundle, request)[0]
    any_precision = EngineRequest(request.engine, trust=request.trust)
    all_candidates = list(iter_candidates(bundle, any_precision))
    candidates = [candidate for candidate in all_candidates if candidate.skip_reason is None]
    if preferred not in candidates:  # requested although its gate failed at export
        candidates.insert(0, preferred)
    skipped = [
        candidate
        for candidate in skipped_candidates(all_candidates, any_precision)
        if (candidate.engine, candidate.precision) != (preferred.engine, preferred.precision)
    ]
    engines = [
        measure_engine(bundle, candidate, dataset, boxes, progress, trust=request.trust)
        for candidate in candidates
    ]
    most_exact = min(
        candidates,
        key=lambda candidate: (
            PRECISIONS.index(candidate.precision),
            candidate.engine != preferred.engine,
        ),
    )
    return _Measurements(
        tuple(engines), tuple(skipped), candidates.index(most_exact), candidates.index(preferred)
    )


def _measure_both_bundles(
    old: Bundle,
    new: Bundle,
    dataset: Dataset,
    boxes: Boxes | None,
    request: EngineRequest,
    progress: Progress,
) -> _Measurements:
    """Measure two bundles, each with its preferred engine; the reference is the old one."""
    if old.labels != new.labels:
        raise UserError(
            "the two models have different labels",
            got=", ".join(new.labels),
            expected=", ".join(old.labels),
            fix="compare models with the same labels in the same order",
        )
    engines = [
        measure_engine(
            bundle,
            runnable_candidates(bundle, request)[0],
            dataset,
            boxes,
            progress,
            trust=request.trust,
            same_model=old.manifest.fingerprint == new.manifest.fingerprint,
        )
        for bundle in (old, new)
    ]
    return _Measurements(tuple(engines), (), 0, 1)


def _assemble_report(
    command: str, dataset: Dataset, measurements: _Measurements, gates: Gates
) -> Report:
    engines, skipped, reference_index, candidate_index = measurements
    reference, candidate = engines[reference_index], engines[candidate_index]
    changes = {
        index: compare_predictions(
            reference.predictions, engine.predictions, reference.calibration, engine.calibration
        )
        for index, engine in enumerate(engines)
        if index != reference_index
    }
    reliability, reliability_error = None, ""
    try:
        reliability = _measure_candidate_reliability(candidate, reference)
    except UserError as error:
        reliability_error = str(error)
    return Report(
        command=command,
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        dataset=ReportDataset(
            dataset.fingerprint(),
            len(candidate.predictions.paths),
            len(dataset.label_set),
            candidate.predictions.unreadable,
        ),
        machine=describe_machine(),
        engines=engines,
        skipped=skipped,
        reference_index=reference_index,
        candidate_index=candidate_index,
        changes=changes,
        curves=compute_curves(candidate.predictions),
        reliability=reliability,
        reliability_error=reliability_error,
        gates=check_gates(candidate, reference, changes.get(candidate_index), gates),
    )


def _measure_candidate_reliability(candidate: EngineReport, reference: EngineReport) -> Reliability:
    """Measure what `calibrate_bundle` would do: a less exact precision follows the most exact."""
    objective, reference_tags = Objective(), None
    if candidate.same_model and candidate is not reference:
        reference_fit = fit_to_reference(reference.predictions, objective, None)
        reference_tags = ReferenceTags.from_predictions(
            reference.predictions, reference_fit.calibration
        )
    fit = fit_to_reference(candidate.predictions, objective, reference_tags)
    return measure_reliability(candidate.predictions, fit, objective)
