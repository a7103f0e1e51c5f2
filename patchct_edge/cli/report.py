"""patchct report: one page from which to decide whether an engine may ship."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from patchct_edge.cli import console, options
from patchct_edge.errors import ExitCode, UserError
from patchct_edge.evaluation.gates import Gates

if TYPE_CHECKING:
    from patchct_edge.bundle import Bundle
    from patchct_edge.datasets import Boxes, Dataset
    from patchct_edge.report.report import Report
    from patchct_edge.runtime.engines.select import EngineRequest

logger = logging.getLogger(__name__)


def report(
    what: Annotated[
        list[Path],
        typer.Argument(
            help="X.patchct DATA; or OLD.patchct NEW.patchct DATA; or reports with --merge.",
            metavar="X.patchct [NEW.patchct] DATA",
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Page to write; a .json goes beside it.")
    ] = Path("report.html"),
    merge: Annotated[
        bool, typer.Option("--merge", help="Put the latencies of several report.json together.")
    ] = False,
    max_map_drop: Annotated[
        float, typer.Option(min=0, help="mAP points that may be lost against the reference.")
    ] = Gates.max_map_drop,
    max_flips: Annotated[
        float, typer.Option(min=0, max=100, help="Tags that may change, percent.")
    ] = Gates.max_flips,
    max_latency: Annotated[
        float | None,
        typer.Option(min=0, help="ms for one photo, 95th percentile; not judged by default."),
    ] = None,
    max_memory: Annotated[
        float | None,
        typer.Option(min=0, help="MB that a process that tags may hold; not judged by default."),
    ] = None,
    split: options.Split = None,
    images: options.Images = None,
    boxes: options.Boxes = None,
    no_photos: Annotated[
        bool, typer.Option("--no-photos", help="Show no photo on the page: it may be published.")
    ] = False,
    engine: options.Engine = None,
    precision: options.Precision = None,
    trust_engine: options.TrustEngine = False,
) -> ExitCode:
    """Measure speed, accuracy and calibration, and judge: exit code 4 where a gate fails.

    The engine that tag would take is judged against the most exact one that runs here; with two
    bundles, the new one against the old.
    """
    from patchct_edge.bundle import Bundle
    from patchct_edge.datasets import read_boxes
    from patchct_edge.report.page import write_report
    from patchct_edge.runtime.engines.select import EngineRequest

    if merge:
        _print_merged(what)
        return ExitCode.OK
    if len(what) not in (2, 3):
        raise UserError(
            "a report is of one bundle or two, and a data set",
            got=f"{len(what)} paths",
            expected="patchct report X.patchct DATA",
            fix="or OLD.patchct NEW.patchct DATA",
        )
    if output.suffix != ".html":
        raise UserError("a report is a page", got=f"-o {output}", expected="a name with .html")
    options.check_writable(output)
    *paths, source = what
    bundles = [Bundle(path) for path in paths]
    data = options.read_dataset(
        source, prefer="val", split=split, labels=bundles[0].labels, images=images
    )
    boxed = None if boxes is None else read_boxes(boxes, bundles[0].labels)
    gates = Gates(
        max_map_drop=max_map_drop,
        max_flips=max_flips,
        max_latency_ms=max_latency,
        max_memory_mb=max_memory,
    )
    wish = EngineRequest(engine, precision, trust=trust_engine)
    found = _measured(bundles, data, boxed, wish, gates)
    for failure in found.about["data"]["failed"]:
        logger.warning(failure)
    beside = write_report(found, output, photos=not no_photos)
    if not found.gates:
        logger.info("nothing was judged: the most exact engine, and no limit given")
    for gate in found.gates:
        typer.echo(f"{'passed' if gate.passed else 'FAILED'}  {gate.name}: {gate.text}")
    logger.info(f"wrote {output} and {beside}")
    if not found.passed:
        return ExitCode.GATE_FAILED
    return ExitCode.SOME_INPUTS_FAILED if found.about["data"]["failed"] else ExitCode.OK


def _measured(
    bundles: list[Bundle], data: Dataset, boxes: Boxes | None, wish: EngineRequest, gates: Gates
) -> Report:
    from patchct_edge.report.report import build_comparison, build_report

    about: dict[str, Any] = {
        "command": shlex.join(["patchct", *sys.argv[1:]]),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
    with console.phases("") as progress:
        if len(bundles) == 1:
            return build_report(bundles[0], data, boxes, wish, gates, about, progress)
        old, new = bundles
        return build_comparison(old, new, data, boxes, wish, gates, about, progress)


def _print_merged(paths: list[Path]) -> None:
    """Print the latencies of several reports side by side: of several devices, say."""
    rows = []
    for path in paths:
        try:
            found = json.loads(path.read_text("utf-8"))
            for each in found["engines"]:
                name, total = each["engine"], each["latency"]["stages"]["total"]
                fastest = max(point["images_per_second"] for point in each["sweep"])
                rows.append(
                    (
                        path.stem,
                        found["machine"]["CPU"],
                        f"{name['precision']} {name['engine']}",
                        *(f"{total[key]:.1f}" for key in ("p50", "p95", "p99")),
                        f"{fastest:.0f}",
                        f"{each['cold_start']['peak_mb']:.0f}",
                        console.percent(each["accuracy"]["map"]),
                    )
                )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is no report",
                got=repr(error),
                expected="a .json that patchct report wrote",
            ) from None
    console.print_table(
        ("report", "machine", "engine", "p50 ms", "p95 ms", "p99 ms", "images/s", "MB", "mAP"),
        rows,
        text_columns=3,
    )
