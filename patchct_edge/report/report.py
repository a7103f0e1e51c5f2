"""The report as data: engines measured, compared, calibrated and checked against the gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from patchct_edge.bundle import Bundle
from patchct_edge.bundle.precisions import PRECISIONS
from patchct_edge.datasets import Boxes, Dataset
from patchct_edge.errors import UserError
from patchct_edge.evaluation.accuracy import nan_to_none
from patchct_edge.evaluation.calibration_fit import ReferenceTags, fit_to_reference
from patchct_edge.evaluation.comparison import Comparison, compare_predictions
from patchct_edge.evaluation.curves import PrecisionRecallCurves, compute_curves
from patchct_edge.evaluation.gates import GateResult, Gates
from patchct_edge.evaluation.objective import Objective
from patchct_edge.evaluation.predictions import check_labels
from patchct_edge.evaluation.reliability import Reliability, measure_reliability
from patchct_edge.profiling.machine import describe_machine
from patchct_edge.progress import NO_PROGRESS, Progress
from patchct_edge.report.engine_report import EngineReport, measure_engine
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


@dataclass(frozen=True)
class ReportDataset:
    """The dataset of a report; `unreadable` holds "path: error" of images that were left out."""

    fingerprint: str
    images: int
    labels: int
    unreadable: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Report:
    """Figures of every engine, and whether the candidate may ship.

    Args:
        command: that made the report.
        date: UTC.
        machine: one line of text by topic.
        engines: fastest first; of two bundles, old and new.
        skipped: engines that cannot run here, with the reason.
        reference_index, candidate_index: into `engines`.
        changes: by index into `engines`, each engine but the reference compared with it.
        curves: of the candidate.
        reliability: of the candidate; None where its dataset cannot calibrate it.
        reliability_error: the reason in that case, else "".
        gates: what was checked, in order; empty where nothing was.
    """

    command: str
    date: str
    dataset: ReportDataset
    machine: dict[str, str]
    engines: tuple[EngineReport, ...]
    skipped: tuple[Candidate, ...]
    reference_index: int
    candidate_index: int
    changes: Mapping[int, Comparison]
    curves: PrecisionRecallCurves
    reliability: Reliability | None
    reliability_error: str
    gates: tuple[GateResult, ...]

    @property
    def reference(self) -> EngineReport:
        return self.engines[self.reference_index]

    @property
    def candidate(self) -> EngineReport:
        return self.engines[self.candidate_index]

    @property
    def change(self) -> Comparison | None:
        """The candidate compared with the reference; None where it is the reference."""
        return self.changes.get(self.candidate_index)

    @property
    def passed(self) -> bool:
        return all(gate.passed for gate in self.gates)

    def title(self, engine: EngineReport) -> str:
        """Return the name of an engine, after its bundle's where there are two bundles."""
        bundles = {report.bundle for report in self.engines}
        return f"{engine.bundle}, {engine.name}" if len(bundles) > 1 else engine.name

    def to_json(self) -> dict[str, Any]:
        """Return every figure by name; what is undefined is null."""
        fields: dict[str, Any] = nan_to_none(
            {
                "command": self.command,
                "date": self.date,
                "dataset": asdict(self.dataset),
                "machine": self.machine,
                "passed": self.passed,
                "gates": [asdict(gate) for gate in self.gates],
                "reference": self.reference_index,
                "candidate": self.candidate_index,
                "engines": [
                    {**engine.to_json(), "change": self._change_to_json(index)}
                    for index, engine in enumerate(self.engines)
                ],
                "skipped": [
                    {
                        "engine": candidate.engine,
                        "precision": candidate.precision,
                        "reason": candidate.skip_reason,
                    }
                    for candidate in self.skipped
                ],
                "precision_recall": self.curves.to_json(),
                "reliability": None if self.reliability is None else self.reliability.to_json(),
                "reliability_error": self.reliability_error or None,
            }
        )
        return fields

    def _change_to_json(self, index: int) -> dict[str, Any] | None:
        return self.changes[index].to_json() if index in self.changes else None


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
    if old is not None:
        _check_same_labels(old, bundle)
        engines = [
            measure_engine(
                measured_bundle,
                runnable_candidates(measured_bundle, request)[0],
                dataset,
                boxes,
                progress,
                trust=request.trust,
                same_model=old.manifest.fingerprint == bundle.manifest.fingerprint,
            )
            for measured_bundle in (old, bundle)
        ]
        return _assemble_report(command, dataset, engines, (), 0, 1, gates)
    chosen = runnable_candidates(bundle, request)[0]
    any_precision = EngineRequest(request.engine, trust=request.trust)
    all_candidates = list(iter_candidates(bundle, any_precision))
    candidates = [candidate for candidate in all_candidates if candidate.skip_reason is None]
    if chosen not in candidates:  # requested although its gate failed at export
        candidates.insert(0, chosen)
    skipped = [
        candidate
        for candidate in skipped_candidates(all_candidates, any_precision)
        if (candidate.engine, candidate.precision) != (chosen.engine, chosen.precision)
    ]
    engines = [
        measure_engine(bundle, candidate, dataset, boxes, progress, trust=request.trust)
        for candidate in candidates
    ]
    reference_index = min(
        range(len(candidates)),
        key=lambda index: (
            PRECISIONS.index(candidates[index].precision),
            candidates[index].engine != chosen.engine,
        ),
    )
    candidate_index = candidates.index(chosen)
    return _assemble_report(
        command, dataset, engines, skipped, reference_index, candidate_index, gates
    )


def _check_same_labels(old: Bundle, new: Bundle) -> None:
    if old.labels != new.labels:
        raise UserError(
            "the two models have different labels",
            got=", ".join(new.labels),
            expected=", ".join(old.labels),
            fix="compare models with the same labels in the same order",
        )


def _assemble_report(
    command: str,
    dataset: Dataset,
    engines: Sequence[EngineReport],
    skipped: Sequence[Candidate],
    reference_index: int,
    candidate_index: int,
    gates: Gates,
) -> Report:
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
        engines=tuple(engines),
        skipped=tuple(skipped),
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
