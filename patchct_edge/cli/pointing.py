"""The pointing game of `patchct eval --boxes`: the engine's own precision beside FP32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from patchct_edge.cli import console

if TYPE_CHECKING:
    from patchct_edge.bundle import Bundle
    from patchct_edge.datasets import Boxes, Dataset
    from patchct_edge.evaluation.pointing import Pointing
    from patchct_edge.runtime.engines.base import EngineRecord


def run_pointing(
    bundle: Bundle, record: EngineRecord, data: Dataset, boxes: Boxes, trust: bool, as_json: bool
) -> dict[str, Any]:
    """Play the game in the precision of an engine and in FP32; print it unless JSON is wanted."""
    from patchct_edge.evaluation.accuracy import nan_to_none
    from patchct_edge.evaluation.pointing import play_pointing_game
    from patchct_edge.runtime.engines.select import EngineRequest, open_engine

    found: dict[str, Pointing] = {}
    for precision in dict.fromkeys((record.precision, "fp32")):
        with (
            open_engine(
                bundle,
                EngineRequest(
                    engine=record.engine if precision == record.precision else None,
                    precision=precision,
                    similarity=True,
                    trust=trust,
                ),
            ) as engine,
            console.counting(f"pointing, {precision}", len(data)) as progress,
        ):
            found[precision] = play_pointing_game(bundle, engine, data, boxes, progress)
    if not as_json:
        _print(found)
    return {name: nan_to_none(each.to_json()) for name, each in found.items()}


def _print(found: dict[str, Pointing]) -> None:
    first = next(iter(found.values()))
    percent = console.percent
    rows = [
        (
            label,
            str(of_label.cases),
            *(percent(each.labels[label].pointing) for each in found.values()),
            percent(of_label.centre),
            *(percent(each.labels[label].energy) for each in found.values()),
        )
        for label, of_label in first.labels.items()
    ]
    headers = ("label", "cases", *(f"pointing {name}" for name in found), "centre")
    console.print_table((*headers, *(f"energy {name}" for name in found)), rows)
    for name, each in found.items():
        every, hard = each.ordinary, each.difficult
        typer.echo(
            f"pointing {name}: {percent(every.pointing)} (95 % interval {percent(each.low)}.."
            f"{percent(each.high)}; {every.cases} cases), centre {percent(every.centre)}, "
            f"energy {percent(every.energy)}; difficult objects alone {percent(hard.pointing)} "
            f"({hard.cases} cases)"
        )
