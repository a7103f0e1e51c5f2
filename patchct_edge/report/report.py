"""The report as data: the figures of every engine, and the results of the gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from patchct_edge.evaluation.accuracy import replace_nan_with_none
from patchct_edge.evaluation.comparison import Comparison
from patchct_edge.evaluation.curves import PrecisionRecallCurves
from patchct_edge.evaluation.gates import GateResult
from patchct_edge.evaluation.reliability import Reliability
from patchct_edge.report.engine_report import EngineReport
from patchct_edge.runtime.engines.select import Candidate


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
        fields: dict[str, Any] = replace_nan_with_none(
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
