"""patchct show: print what a bundle holds, and verify its files."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Annotated

import typer

from patchct_edge.cli import options
from patchct_edge.cli.export import print_stages

if TYPE_CHECKING:
    from patchct_edge.bundle import Bundle
    from patchct_edge.runtime.engines.select import Candidate

logger = logging.getLogger(__name__)


def show(
    bundle_path: options.BundlePath,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check every file against its sha256.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show a bundle: labels, preprocessing, export gates, and the engines that fit this machine."""
    from patchct_edge.bundle import Bundle
    from patchct_edge.runtime.engines.select import iter_candidates

    bundle = Bundle(bundle_path)
    if verify:
        bundle.verify()
    candidates = [candidate for candidate in iter_candidates(bundle) if candidate.engine != "fake"]
    if as_json:
        engines = [
            {
                "engine": candidate.engine,
                "precision": candidate.precision,
                "reason": candidate.skip_reason,
            }
            for candidate in candidates
        ]
        content = {**bundle.manifest.to_json(), "engines": engines}
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    _print_bundle(bundle, candidates)
    if verify:
        logger.info("every file matches its sha256")


def _print_bundle(bundle: Bundle, candidates: list[Candidate]) -> None:
    manifest = bundle.manifest
    sizes = {name: bundle.file_path(name).stat().st_size for name in manifest.files}
    preprocessing, (rows, columns) = manifest.preprocessing, manifest.grid
    typer.echo(f"model    {manifest.fingerprint}  ({manifest.producer})")
    typer.echo(f"labels   {len(manifest.labels)}: {', '.join(manifest.labels)}")
    typer.echo(f"prompts  {manifest.prompts[0]} ...  (label encoder: {manifest.label_encoder})")
    typer.echo(
        f"input    {preprocessing.size} x {preprocessing.size} RGB, "
        f"{preprocessing.fit}, {preprocessing.interpolation}"
    )
    typer.echo(f"patches  {rows} x {columns}, temperature (tau) {manifest.tau:.4f}")
    for name, size in sizes.items():
        typer.echo(f"file     {name}  {_format_size(size)}")
    for candidate in candidates:
        typer.echo(f"engine   {candidate}")
    print_stages(manifest.stages)


def _format_size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
