"""patchct tag: write the tags of photos as JSON lines or CSV."""

from __future__ import annotations

import logging
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from patchct_edge.cli import console, options
from patchct_edge.errors import ExitCode, UserError
from patchct_edge.version import __version__

logger = logging.getLogger(__name__)


class RowFormat(str, Enum):
    """Format of the rows of tags."""

    JSONL = "jsonl"
    CSV = "csv"


def tag(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Photos: files, folders, patterns, or - to read a list from stdin.",
            metavar="INPUT",
        ),
    ],
    model: options.ModelPath,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; stdout by default.")
    ] = None,
    row_format: Annotated[
        RowFormat, typer.Option("--format", help="Format of the rows.")
    ] = RowFormat.JSONL,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="One threshold for the scores of all labels, 0..1; each label's own by default.",
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Write at most this many tags per photo; all by default."),
    ] = None,
    all_scores: Annotated[
        bool, typer.Option("--all-scores", help="Write every label with its score.")
    ] = False,
    header: Annotated[
        bool, typer.Option("--header", help="Write a first line with version, model and engine.")
    ] = False,
    engine: options.Engine = None,
    precision: options.Precision = None,
    trust_engine: options.TrustEngine = False,
    uncalibrated: options.Uncalibrated = False,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images per batch; the engine's choice by default.")
    ] = None,
) -> ExitCode:
    """Tag photos. A file that cannot be read gets an error row, and the run continues."""
    from patchct_edge.runtime.tagging.inputs import find_images
    from patchct_edge.runtime.tagging.tagger import Tagger
    from patchct_edge.runtime.tagging.writers import open_writer

    if header and row_format is not RowFormat.JSONL:
        raise UserError(
            "--header writes a line of JSON",
            got=f"--format {row_format.value}",
            fix="leave out --header, or use --format jsonl",
        )
    if output is not None:
        _check_output(output, inputs)
    single_photo = len(inputs) == 1 and options.is_file(inputs[0])
    failures = 0
    with Tagger.open(
        model,
        engine=engine,
        precision=precision,
        latency=single_photo,
        trust=trust_engine,
        calibrated=not uncalibrated,
    ) as tagger:
        record = tagger.engine.record
        header_fields = {
            "patchct": __version__,
            "model": tagger.bundle.manifest.fingerprint,
            "precision": record.precision,
            "engine": record.to_json(),
        }
        photos = find_images(inputs)
        photos = chain([next(photos)], photos)  # a typo is reported before -o is truncated
        rows = tagger.tag_files(
            photos, threshold=threshold, top_k=top_k, all_scores=all_scores, batch=batch
        )
        with open_writer(
            output,
            row_format.value,
            header=header_fields if header else None,
            labels=tagger.bundle.labels,
            all_scores=all_scores,
        ) as writer:
            for row in console.track(rows, "tagging"):
                writer.write(row)
                failures += row.error is not None
    if failures:
        logger.warning(
            "1 file could not be read: see the error in its row"
            if failures == 1
            else f"{failures} files could not be read: see the errors in their rows"
        )
        return ExitCode.SOME_INPUTS_FAILED
    return ExitCode.OK


def _check_output(output: Path, inputs: list[str]) -> None:
    """Refuse to write over a photo, as `-o *.jpg` would, or over any other of the inputs."""
    from patchct_edge.images import IMAGE_SUFFIXES

    options.check_outside_bundles(output)
    is_input = options.is_same_file(output, inputs)
    if is_input or (options.is_file(output) and output.suffix.lower() in IMAGE_SUFFIXES):
        raise UserError(
            f"-o would overwrite {output}",
            got="one of the inputs" if is_input else "a photo",
            fix="-o tags.jsonl",
        )
