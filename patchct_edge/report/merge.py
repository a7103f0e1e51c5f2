"""Headline figures of written reports, to compare devices side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from patchct_edge.errors import UserError
from patchct_edge.profiling.latency import TOTAL


class EngineSummary(NamedTuple):
    """The headline figures of one engine in one report.

    Args:
        p50_ms, p95_ms, p99_ms: of one photo, from file to tags.
        images_per_second: at the best batch size.
        map: 0..1; None where it is undefined.
    """

    report: str
    cpu: str
    engine: str
    p50_ms: float
    p95_ms: float
    p99_ms: float
    images_per_second: float
    peak_mb: float
    map: float | None


def summarize_report(path: Path) -> list[EngineSummary]:
    """Read the figures of every engine from the .json of a report.

    Raises:
        UserError: the file is missing, or is not a report of this version.
    """
    try:
        report = json.loads(path.read_text("utf-8"))
        return [
            EngineSummary(
                report=path.stem,
                cpu=report["machine"]["CPU"],
                engine=f"{engine['engine']['precision']} {engine['engine']['engine']}",
                p50_ms=float(engine["latency"]["stages"][TOTAL]["p50"]),
                p95_ms=float(engine["latency"]["stages"][TOTAL]["p95"]),
                p99_ms=float(engine["latency"]["stages"][TOTAL]["p99"]),
                images_per_second=max(
                    float(point["images_per_second"]) for point in engine["sweep"]
                ),
                peak_mb=float(engine["cold_start"]["peak_mb"]),
                map=_float_or_none(engine["accuracy"]["map"]),
            )
            for engine in report["engines"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else repr(error)
        raise UserError(
            f"{path} is not a report",
            got=reason,
            expected="a .json that patchct report wrote",
        ) from None


def _float_or_none(value: float | None) -> float | None:
    return None if value is None else float(value)
