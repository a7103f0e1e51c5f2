"""What several commands share: options, the data sets they read, the files they may write."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from patchct_edge.errors import UserError

if TYPE_CHECKING:
    from patchct_edge.datasets import Dataset

logger = logging.getLogger(__name__)

Data = Annotated[
    Path,
    typer.Argument(help="CSV with columns image,labels; COCO JSON; or VOC folder.", metavar="DATA"),
]
BundlePath = Annotated[Path, typer.Argument(help="The bundle.", metavar="X.patchct")]
Engine = Annotated[
    str | None,
    typer.Option(help="tensorrt, openvino, onnxruntime or fake; the fastest that fits by default."),
]
Precision = Annotated[
    str | None, typer.Option(help="fp32, fp16 or int8; the fastest that fits by default.")
]
TrustEngine = Annotated[
    bool,
    typer.Option(
        "--trust-engine", help="Run an engine that was compiled on another machine: it is code."
    ),
]
Uncalibrated = Annotated[
    bool,
    typer.Option("--uncalibrated", help="As before patchct calibrate: every threshold 0.5."),
]
Split = Annotated[
    str | None, typer.Option(help="Split of the data set, or 'all'; the one that fits by default.")
]
Images = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the image files of a COCO JSON; around it by default.", metavar="DIR"
    ),
]
Boxes = Annotated[
    Path | None,
    typer.Option(
        help="CSV image,label,xmin,ymin,xmax,ymax: do the heat maps point there? "
        "Not asked by default.",
        metavar="FILE",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def read_data(
    source: Path,
    *,
    prefer: str,
    split: str | None = None,
    labels: Sequence[str] | None = None,
    prompts: Mapping[str, str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a data set and pass its warnings on."""
    from patchct_edge.datasets import read_dataset

    data = read_dataset(source, split=split, labels=labels, images=images, prefer=prefer)
    return dataclasses.replace(print_warnings(data), prompts=dict(prompts or {}))


def print_warnings(data: Dataset) -> Dataset:
    """Pass the warnings of a data set on."""
    for warning in data.warnings:
        logger.warning(warning)
    return dataclasses.replace(data, warnings=())


def check_outside_bundles(target: Path) -> None:
    """Refuse a file among those of a bundle, which would be one no more."""
    from patchct_edge.bundle.bundle import enclosing_bundle

    if enclosing_bundle(target) is not None:
        raise UserError(f"cannot write {target}", got="a file within a bundle", fix="another -o")


def check_writable(target: Path) -> None:
    """Refuse a file that cannot be written, before anything is computed."""
    check_outside_bundles(target)
    folder = target.parent
    if not os.path.isdir(folder):  # noqa: PTH112  (Path.is_dir fails on a name too long)
        raise UserError(
            f"cannot write {target}",
            got=f"no folder {folder}",
            fix=f"mkdir -p {quote(str(folder))}",
        )
    if os.path.isdir(target) or not os.access(folder, os.W_OK):  # noqa: PTH112
        got = "a folder" if target.is_dir() else f"{folder} may not be written"
        raise UserError(f"cannot write {target}", got=got, fix="another -o")


def is_one_of(target: Path, paths: Iterable[Path | str]) -> bool:
    """Whether a file that is there is the same as one of `paths`, by whatever name."""
    return is_file(target) and any(
        is_file(path) and os.path.samefile(path, target)  # noqa: PTH121
        for path in paths
    )


def is_file(path: Path | str) -> bool:
    return os.path.isfile(path)  # noqa: PTH113  (Path.is_file fails on a name too long)
