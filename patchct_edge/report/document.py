"""The report as data: all engines measured, compared, calibrated and judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from patchct_edge.bundle import PRECISIONS, Bundle
from patchct_edge.datasets import Boxes, DataSet
from patchct_edge.errors import UserError
from patchct_edge.report.accuracy import without_nan
from patchct_edge.report.calibration import Objective
from patchct_edge.report.comparison import Comparison, compared
from patchct_edge.report.curves import Curves, Reliability, curves, reliability
from patchct_edge.report.machine import machine
from patchct_edge.report.measure import Measured, Progress, measured
from patchct_edge.report.verdict import Gate, Limits, verdict
from patchct_edge.runtime.engines.select import Candidate, Wish, candidates, left_out, runnable


@dataclass(frozen=True, eq=False)
class Report:
    """A report.

    `engines` are in the order of `select`, fastest first, and `left_out` could not be measured
    here; `changes` holds, by index, what each does otherwise than the reference; `reliability` is
    None where nothing could be calibrated, and `uncalibrated` then says why.
    """

    about: dict[str, Any]
    engines: tuple[Measured, ...]
    left_out: tuple[Candidate, ...]
    reference: int
    candidate: int
    changes: Mapping[int, Comparison]
    curves: Curves
    reliability: Reliability | None
    uncalibrated: str
    gates: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        return all(gate.passed for gate in self.gates)

    def to_json(self) -> dict[str, Any]:
        """Return every figure; what is undefined is null."""
        found: dict[str, Any] = without_nan({
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
                {"engine": each.engine, "precision": each.precision, "reason": each.reason}
                for each in self.left_out
            ],
            "precision_recall": self.curves.to_json(),
            "reliability": None if self.reliability is None else self.reliability.to_json(),
            "uncalibrated": self.uncalibrated,
        })  # fmt: skip
        return found

    def _change_json(self, n: int) -> dict[str, Any] | None:
        return self.changes[n].to_json() if n in self.changes else None


def report_of(
    bundle: Bundle,
    data: DataSet,
    boxes: Boxes | None,
    wish: Wish,
    limits: Limits,
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
    judged = runnable(bundle, wish)[0]
    everything = Wish(wish.engine, trust=wish.trust)
    found = list(candidates(bundle, everything))
    every = [each for each in found if each.reason is None]
    if judged not in every:  # asked for although its gate failed at export
        every.insert(0, judged)
    asked = (judged.engine, judged.precision)
    left = [e for e in left_out(found, everything) if (e.engine, e.precision) != asked]
    engines = [measured(bundle, each, data, boxes, progress, trust=wish.trust) for each in every]
    reference = min(
        range(len(every)),
        key=lambda n: (PRECISIONS.index(every[n].precision), every[n].engine != judged.engine),
    )
    return _report(about, data, engines, left, reference, every.index(judged), limits)


def comparison_of(
    old: Bundle,
    new: Bundle,
    data: DataSet,
    boxes: Boxes | None,
    wish: Wish,
    limits: Limits,
    about: dict[str, Any],
    progress: Progress,
) -> Report:
    """Measure two bundles, each with the engine that a command would take, and judge the new one.

    Raises:
        UserError: the two have not the same labels, or nothing can be measured.
    """
    if old.labels != new.labels:
        raise UserError(
            "the two models have not the same labels", got=", ".join(new.labels),
            expected=", ".join(old.labels), fix="compare models of one label set",
        )  # fmt: skip
    same = old.manifest.fingerprint == new.manifest.fingerprint
    engines = [
        measured(
            bundle,
            runnable(bundle, wish)[0],
            data,
            boxes,
            progress,
            trust=wish.trust,
            same_model=same,
        )
        for bundle in (old, new)
    ]
    return _report(about, data, engines, (), 0, 1, limits)


def _report(
    about: dict[str, Any],
    data: DataSet,
    engines: Sequence[Measured],
    left: Sequence[Candidate],
    reference: int,
    candidate: int,
    limits: Limits,
) -> Report:
    exact, chosen = engines[reference], engines[candidate]
    changes = {
        n: compared(exact.judged, each.judged, exact.calibration, each.calibration)
        for n, each in enumerate(engines)
        if n != reference
    }
    said = chosen.judged
    try:
        is_other = chosen.same_model and candidate != reference
        found, why = reliability(said, Objective(), exact.judged if is_other else None), ""
    except UserError as error:
        found, why = None, str(error)
    made_from = {
        "data": {
            "fingerprint": data.fingerprint(), "images": len(said.paths),
            "labels": len(data.label_set), "failed": list(said.failed),
        },
        "machine": machine(),
    }  # fmt: skip
    return Report(
        {**about, **made_from}, tuple(engines), tuple(left), reference, candidate, changes,
        curves(said), found, why, verdict(chosen, exact, changes.get(candidate), limits),
    )  # fmt: skip
