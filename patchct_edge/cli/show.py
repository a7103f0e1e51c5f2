"""patchct show: what a bundle holds, and whether it is whole."""

from __future__ import annotations

import json
import logging
from typing import Annotated

import typer

from patchct_edge.cli import options
from patchct_edge.cli.export import print_stages

logger = logging.getLogger(__name__)


def show(
    bundle: options.BundlePath,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the sha256 of every file.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show labels, preprocessing, parity figures and the engines that fit this machine."""
    from patchct_edge.bundle import Bundle
    from patchct_edge.runtime.engines.select import iter_candidates

    opened = Bundle(bundle)
    if verify:
        opened.verify()
    manifest = opened.manifest
    found = [each for each in iter_candidates(opened) if each.engine != "fake"]
    if as_json:
        engines = [
            {"engine": c.engine, "precision": c.precision, "reason": c.skip_reason} for c in found
        ]
        text = {**manifest.to_json(), "engines": engines}
        typer.echo(json.dumps(text, indent=2, ensure_ascii=False))
        return
    sizes = {name: opened.file_path(name).stat().st_size for name in manifest.files}
    preprocessing, (rows, columns) = manifest.preprocessing, manifest.grid
    typer.echo(f"model    {manifest.fingerprint}  ({manifest.producer})")
    typer.echo(f"labels   {len(manifest.labels)}: {', '.join(manifest.labels)}")
    typer.echo(f"prompts  {manifest.prompts[0]} ...  (encoder: {manifest.label_source})")
    typer.echo(
        f"input    {preprocessing.size} x {preprocessing.size} RGB, "
        f"{preprocessing.fit}, {preprocessing.interpolation}"
    )
    typer.echo(f"patches  {rows} x {columns}, tau {manifest.tau:.4f}")
    for name, size in sizes.items():
        typer.echo(f"file     {name}  {size / 1e6:.1f} MB")
    for candidate in found:
        typer.echo(f"engine   {candidate}")
    print_stages(manifest.stages)
    if verify:
        logger.info("every file is as it was written")
