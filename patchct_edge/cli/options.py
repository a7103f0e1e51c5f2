"""What several commands share: options, reading datasets, checks of the files to write."""

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

DataPath = Annotated[
    Path,
    typer.Argument(
        help="Dataset: a CSV with columns image,labels; a COCO JSON; or a VOC folder.",
        metavar="DATA",
    ),
]
BundlePath = Annotated[
    Path, typer.Argument(help="Bundle, as patchct export writes it.", metavar="X.patchct")
]
ModelPath = Annotated[Path, typer.Option("--model", help="Bundle to run.", metavar="X.patchct")]
Engine = Annotated[
    str | None,
    typer.Option(
        help="Engine: tensorrt, openvino, onnxruntime, or fake (for tests); "
        "the fastest that fits by default."
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(help="Precision: fp32, fp16 or int8; the fastest that fits by default."),
]
TrustEngine = Annotated[
    bool,
    typer.Option(
        "--trust-engine",
        help="Run an engine compiled on another machine. It can execute code: trust its source.",
    ),
]
Uncalibrated = Annotated[
    bool,
    typer.Option("--uncalibrated", help="Ignore calibration: raw scores, threshold 0.5."),
]
Split = Annotated[
    str | None,
    typer.Option(help="Split of the dataset to read, or 'all'; val by default."),
]
Images = Annotated[
    Path | None,
    typer.Option(
        help="Image folder of a COCO JSON; searched for beside the JSON by default.",
        metavar="DIR",
    ),
]
Boxes = Annotated[
    Path | None,
    typer.Option(
        help="Check the heat maps against boxes: a CSV with columns image, label, xmin, "
        "ymin, xmax, ymax; no check by default.",
        metavar="FILE",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def read_dataset(
    path: Path,
    *,
    default_split: str,
    split: str | None = None,
    labels: Sequence[str] | None = None,
    prompts: Mapping[str, str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a dataset and log its warnings; see `patchct_edge.datasets.read_dataset`."""
    from patchct_edge import datasets

    dataset = datasets.read_dataset(
        path, split=split, labels=labels, images=images, default_split=default_split
    )
    for warning in dataset.warnings:
        logger.warning(warning)
    return dataclasses.replace(dataset, warnings=(), prompts=dict(prompts or {}))


def check_outside_bundles(target: Path) -> None:
    """Refuse to write inside a bundle: its hashes would no longer match."""
    from patchct_edge.bundle.bundle import find_enclosing_bundle

    if find_enclosing_bundle(target) is not None:
        raise UserError(
            f"cannot write {target}",
            got="a path inside a bundle",
            fix="choose another -o, outside the bundle",
        )


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
        got = "a folder" if target.is_dir() else f"no permission to write in {folder}"
        raise UserError(f"cannot write {target}", got=got, fix="choose another -o")


def is_same_file(target: Path, paths: Iterable[Path | str]) -> bool:
    """Return whether `target` exists and is one of `paths`, under whatever name."""
    return is_file(target) and any(
        is_file(path) and os.path.samefile(path, target)  # noqa: PTH121
        for path in paths
    )


def is_file(path: Path | str) -> bool:
    """Return whether a path is a file; False, not an error, for a name that is too long."""
    return os.path.isfile(path)  # noqa: PTH113  (Path.is_file fails there)
