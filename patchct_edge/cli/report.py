"""patchct report: write one page from which to decide whether an engine may ship."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from patchct_edge.cli import console, options
from patchct_edge.errors import ExitCode, UserError
from patchct_edge.evaluation.gates import Gates

logger = logging.getLogger(__name__)


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="X.patchct DATA; or OLD.patchct NEW.patchct DATA; or reports with --merge.",
            metavar="X.patchct [NEW.patchct] DATA",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="HTML page to write; its figures go into a .json beside it."
        ),
    ] = Path("report.html"),
    merge: Annotated[
        bool, typer.Option("--merge", help="Print the figures of several report.json in one table.")
    ] = False,
    max_map_drop: Annotated[
        float,
        typer.Option(min=0, metavar="NUMBER", help="Gate: largest mAP drop, points of 0..100."),
    ] = Gates.max_map_drop,
    max_flips: Annotated[
        float,
        typer.Option(
            min=0,
            max=100,
            metavar="NUMBER",
            help="Gate: largest share of tags that may change, percent.",
        ),
    ] = Gates.max_flips,
    max_latency: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="NUMBER",
            help="Gate: 95th percentile of one photo, ms; no limit by default.",
        ),
    ] = Gates.max_latency_ms,
    max_memory: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="NUMBER", help="Gate: peak memory of a process, MB; no limit by default."
        ),
    ] = Gates.max_memory_mb,
    split: options.Split = None,
    images: options.Images = None,
    boxes: options.Boxes = None,
    no_photos: Annotated[
        bool,
        typer.Option(
            "--no-photos", help="Leave out all photos, so that the page can be published."
        ),
    ] = False,
    engine: options.Engine = None,
    precision: options.Precision = None,
    trust_engine: options.TrustEngine = False,
) -> ExitCode:
    """Measure speed, accuracy and calibration; exit with 4 if a gate fails.

    Checks the engine that the other commands would choose against the most exact one that runs
    here; with two bundles, the new one against the old.
    """
    from patchct_edge.bundle import Bundle
    from patchct_edge.datasets import read_boxes
    from patchct_edge.report.build import build_report
    from patchct_edge.report.page import check_libraries, write_report
    from patchct_edge.runtime.engines.select import EngineRequest

    if merge:
        _print_summaries(paths)
        return ExitCode.OK
    _check_usage(paths, output)
    check_libraries()
    *old_paths, bundle_path, source = paths
    bundle = Bundle(bundle_path)
    old = Bundle(old_paths[0]) if old_paths else None
    labels = bundle.labels
    dataset = options.read_dataset(
        source, default_split="val", split=split, labels=labels, images=images
    )
    with console.progress() as progress:
        result = build_report(
            bundle,
            dataset,
            old=old,
            boxes=None if boxes is None else read_boxes(boxes, labels),
            request=EngineRequest(engine, precision, trust=trust_engine),
            gates=Gates(
                max_map_drop=max_map_drop,
                max_flips=max_flips,
                max_latency_ms=max_latency,
                max_memory_mb=max_memory,
            ),
            command=shlex.join(["patchct", *sys.argv[1:]]),
            progress=progress,
        )
    for line in result.dataset.unreadable:
        logger.warning(line)
    json_path = write_report(result, output, photos=not no_photos)
    if not result.gates:
        logger.info(
            "no gate was checked: this engine is itself the most exact one, and neither "
            "--max-latency nor --max-memory was given"
        )
    for gate in result.gates:
        typer.echo(f"{'passed' if gate.passed else 'FAILED'}  {gate.name}: {gate.text}")
    logger.info(f"wrote {output} and {json_path}")
    if not result.passed:
        return ExitCode.GATE_FAILED
    return ExitCode.SOME_INPUTS_FAILED if result.dataset.unreadable else ExitCode.OK


def _check_usage(paths: list[Path], output: Path) -> None:
    if len(paths) not in (2, 3):
        raise UserError(
            "a report needs one or two bundles, and a dataset",
            got=f"{len(paths)} path{'' if len(paths) == 1 else 's'}",
            expected="X.patchct DATA, or OLD.patchct NEW.patchct DATA",
            fix="patchct report X.patchct DATA",
        )
    if output.suffix != ".html":
        raise UserError(
            "a report is an HTML page",
            got=f"-o {output}",
            expected="a name that ends in .html",
            fix=f"-o {output.with_suffix('.html')}",
        )
    options.check_writable(output)


def _print_summaries(paths: list[Path]) -> None:
    from patchct_edge.report.merge import summarize_report

    console.print_table(
        ("report", "machine", "engine", "p50 ms", "p95 ms", "p99 ms", "images/s", "MB", "mAP"),
        [
            (
                engine.report,
                engine.cpu,
                engine.engine,
                f"{engine.p50_ms:.1f}",
                f"{engine.p95_ms:.1f}",
                f"{engine.p99_ms:.1f}",
                f"{engine.images_per_second:.0f}",
                f"{engine.peak_mb:.0f}",
                console.percent(engine.map),
            )
            for path in paths
            for engine in summarize_report(path)
        ],
        text_columns=3,
    )
