"""The report as data: all engines measured, compared, calibrated and judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from patchct_edge.bundle import Bundle
from patchct_edge.bundle.precisions import PRECISIONS
from patchct_edge.datasets import Boxes, Dataset
from patchct_edge.errors import UserError
from patchct_edge.evaluation.accuracy import nan_to_none
from patchct_edge.evaluation.calibration_fit import Objective
from patchct_edge.evaluation.comparison import Comparison, compare_predictions
from patchct_edge.evaluation.curves import Curves, Reliability, compute_curves, measure_reliability
from patchct_edge.evaluation.gates import GateResult, Gates
from patchct_edge.profiling.machine import describe_machine
from patchct_edge.report.engine_report import EngineReport, Progress, measure_engine
from patchct_edge.report.verdict import check_gates
from patchct_edge.runtime.engines.select import (
    Candidate,
    EngineRequest,
    iter_candidates,
    runnable_candidates,
    skipped_candidates,
)


@dataclass(frozen=True, eq=False)
class Report:
    """A report.

    `engines` are in the order of `select`, fastest first, and `left_out` could not be measured
    here; `changes` holds, by index, what each does otherwise than the reference; `reliability` is
    None where nothing could be calibrated, and `uncalibrated` then says why.
    """

    about: dict[str, Any]
    engines: tuple[EngineReport, ...]
    left_out: tuple[Candidate, ...]
    reference: int
    candidate: int
    changes: Mapping[int, Comparison]
    curves: Curves
    reliability: Reliability | None
    uncalibrated: str
    gates: tuple[GateResult, ...]

    @property
    def passed(self) -> bool:
        return all(gate.passed for gate in self.gates)

    def to_json(self) -> dict[str, Any]:
        """Return every figure; what is undefined is null."""
        found: dict[str, Any] = nan_to_none(
            {
                **self.about,
                "passed": self.passed,
                "gates": [asdict(gate) for gate in self.gates],
                "reference": self.reference,
                "candidate": self.candidate,
                "engines": [
                    {**each.to_json(), "change": self._change_json(n)}
                    for n, each in enumerate(self.engines)
                ],
                "left_out": [
                    {"engine": each.engine, "precision": each.precision, "reason": each.skip_reason}
                    for each in self.left_out
                ],
                "precision_recall": self.curves.to_json(),
                "reliability": None if self.reliability is None else self.reliability.to_json(),
                "uncalibrated": self.uncalibrated,
            }
        )
        return found

    def _change_json(self, n: int) -> dict[str, Any] | None:
        return self.changes[n].to_json() if n in self.changes else None


def build_report(
    bundle: Bundle,
    data: Dataset,
    boxes: Boxes | None,
    wish: EngineRequest,
    gates: Gates,
    about: dict[str, Any],
    progress: Progress,
) -> Report:
    """Measure every engine that runs here and judge the one that a command would take.

    Args:
        boxes: of the objects, where the pointing game is to be played.
        wish: an engine or precision that is to be judged; FP32 is measured beside it.
        about: what the report was made from, such as the command line.

    Raises:
        UserError, EngineError: nothing can be measured.
    """
    judged = runnable_candidates(bundle, wish)[0]
    everything = EngineRequest(wish.engine, trust=wish.trust)
    found = list(iter_candidates(bundle, everything))
    every = [each for each in found if each.skip_reason is None]
    if judged not in every:  # asked for although its gate failed at export
        every.insert(0, judged)
    asked = (judged.engine, judged.precision)
    left = [e for e in skipped_candidates(found, everything) if (e.engine, e.precision) != asked]
    engines = [
        measure_engine(bundle, each, data, boxes, progress, trust=wish.trust) for each in every
    ]
    reference = min(
        range(len(every)),
        key=lambda n: (PRECISIONS.index(every[n].precision), every[n].engine != judged.engine),
    )
    return _report(about, data, engines, left, reference, every.index(judged), gates)


def build_comparison(
    old: Bundle,
    new: Bundle,
    data: Dataset,
    boxes: Boxes | None,
    wish: EngineRequest,
    gates: Gates,
    about: dict[str, Any],
    progress: Progress,
) -> Report:
    """Measure two bundles, each with the engine that a command would take, and judge the new one.

    Raises:
        UserError: the two have not the same labels, or nothing can be measured.
    """
    if old.labels != new.labels:
        raise UserError(
            "the two models have not the same labels",
            got=", ".join(new.labels),
            expected=", ".join(old.labels),
            fix="compare models of one label set",
        )
    same = old.manifest.fingerprint == new.manifest.fingerprint
    engines = [
        measure_engine(
            bundle,
            runnable_candidates(bundle, wish)[0],
            data,
            boxes,
            progress,
            trust=wish.trust,
            same_model=same,
        )
        for bundle in (old, new)
    ]
    return _report(about, data, engines, (), 0, 1, gates)


def _report(
    about: dict[str, Any],
    data: Dataset,
    engines: Sequence[EngineReport],
    left: Sequence[Candidate],
    reference: int,
    candidate: int,
    gates: Gates,
) -> Report:
    exact, chosen = engines[reference], engines[candidate]
    changes = {
        n: compare_predictions(exact.judged, each.judged, exact.calibration, each.calibration)
        for n, each in enumerate(engines)
        if n != reference
    }
    said = chosen.judged
    try:
        is_other = chosen.same_model and candidate != reference
        found, why = measure_reliability(said, Objective(), exact.judged if is_other else None), ""
    except UserError as error:
        found, why = None, str(error)
    made_from = {
        "data": {
            "fingerprint": data.fingerprint(),
            "images": len(said.paths),
            "labels": len(data.label_set),
            "failed": list(said.failed),
        },
        "machine": describe_machine(),
    }
    return Report(
        {**about, **made_from},
        tuple(engines),
        tuple(left),
        reference,
        candidate,
        changes,
        compute_curves(said),
        found,
        why,
        check_gates(chosen, exact, changes.get(candidate), gates),
    )
