"""patchct tag: the tags of photos, as JSON lines or CSV."""

from __future__ import annotations

import logging
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from patchct_edge import __version__
from patchct_edge.cli import console, options
from patchct_edge.errors import ExitCode, UserError

logger = logging.getLogger(__name__)


class Format(str, Enum):
    """Of the rows."""

    JSONL = "jsonl"
    CSV = "csv"


def tag(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Files, folders, patterns, or - for a list on stdin.", metavar="INPUT"),
    ],
    model: Annotated[Path, typer.Option(help="The bundle.", metavar="X.patchct")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; stdout by default.")
    ] = None,
    format: Annotated[Format, typer.Option(help="Of the rows.")] = Format.JSONL,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="One score for all labels, 0..1; calibrated by default."),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="At most so many tags; all by default.")
    ] = None,
    all_scores: Annotated[
        bool, typer.Option("--all-scores", help="Every label, whatever its score.")
    ] = False,
    header: Annotated[
        bool, typer.Option("--header", help="First line: version, model, engine.")
    ] = False,
    engine: options.Engine = None,
    precision: options.Precision = None,
    trust_engine: options.TrustEngine = False,
    uncalibrated: options.Uncalibrated = False,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images a batch; the engine's choice by default.")
    ] = None,
) -> ExitCode:
    """Tag photos. A file that cannot be read gets an error row, and the run goes on."""
    from patchct_edge.runtime.tagging.inputs import find_images
    from patchct_edge.runtime.tagging.tagger import Tagger
    from patchct_edge.runtime.tagging.writers import open_writer

    if header and format is not Format.JSONL:
        raise UserError(
            "--header is a line of JSON",
            got=f"--format {format.value}",
            fix="leave --header out, or --format jsonl",
        )
    if output is not None:
        _check_output(output, inputs)
    single = len(inputs) == 1 and options.is_file(inputs[0])
    failed = 0
    with Tagger.open(
        model,
        engine=engine,
        precision=precision,
        latency=single,
        trust=trust_engine,
        calibrated=not uncalibrated,
    ) as tagger:
        record = tagger.engine.record
        about = {
            "patchct": __version__,
            "model": tagger.bundle.manifest.fingerprint,
            "precision": record.precision,
            "engine": record.to_json(),
        }
        found = find_images(inputs)
        found = chain([next(found)], found)  # a typo is told before -o is emptied
        rows = tagger.tag_files(
            found, threshold=threshold, top_k=top_k, all_scores=all_scores, batch=batch
        )
        with open_writer(
            output,
            format.value,
            header=about if header else None,
            labels=tagger.bundle.labels,
            every_score=all_scores,
        ) as sink:
            for row in console.track(rows, "tagging"):
                sink.write(row)
                failed += row.error is not None
    if failed:
        files = "1 file" if failed == 1 else f"{failed} files"
        logger.warning(f"{files} could not be read; see the error in each row")
        return ExitCode.SOME_INPUTS_FAILED
    return ExitCode.OK


def _check_output(output: Path, inputs: list[str]) -> None:
    """Refuse to write over a photo, as `-o *.jpg` would, or over any other of the inputs."""
    from patchct_edge.images import SUFFIXES

    options.check_outside_bundles(output)
    is_picture = options.is_file(output) and output.suffix.lower() in SUFFIXES
    if is_picture or options.is_one_of(output, inputs):
        raise UserError(
            f"-o would write over {output}",
            got="an image or one of the inputs",
            fix="-o tags.jsonl",
        )
