"""The manifest of a bundle: labels, preprocessing, patch grid, stage records, file hashes."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from patchct_edge.bundle.precisions import graph_name
from patchct_edge.bundle.preprocessing import Preprocessing
from patchct_edge.errors import BundleError, UserError

FORMAT = 2  # that of version 0.2.0; bundles of format 2 open in every later version
MANIFEST_NAME = "manifest.json"
EXPORT_AGAIN = "copy the bundle again, or make a new one with patchct export"


@dataclass(frozen=True)
class Stage:
    """The record of one export stage: its scores compared with those of an earlier stage.

    Both stages score the same images. Differences are between probabilities, 0..1; `flips` is
    `metrics.tag_flips`, a fraction of the reference's tags. `map` is the mean average precision
    (mAP, 0..1) of this stage with its 95 % interval, `map_drop` what the stage lost against
    `against`; all four are None if the images have no labels.
    """

    name: str
    against: str
    engine: str
    images: int
    max_difference: float
    mean_difference: float
    flips: float
    map: float | None = None
    map_low: float | None = None
    map_high: float | None = None
    map_drop: float | None = None
    gate: str = ""
    passed: bool = True


@dataclass(frozen=True)
class Manifest:
    """The fields of `manifest.json`.

    Args:
        prompts: the text that each label's prototype was computed from, as many as labels.
        label_encoder: where the prototypes come from, such as the name of a text encoder.
        tau: temperature of the navigators, above 0.
        grid: (rows, columns) of patches.
        producer: name and version of the program that wrote the bundle.
        fingerprint: identifies the model, see `compute_fingerprint`.
        quantization_data: the photos that the quantizer read, None without INT8.
        files: sha256 in hexadecimal of every other file, by its name relative to the bundle.
    """

    labels: tuple[str, ...]
    prompts: tuple[str, ...]
    label_encoder: str
    preprocessing: Preprocessing
    tau: float
    grid: tuple[int, int]
    producer: str
    fingerprint: str = ""
    quantization_data: str | None = None
    stages: tuple[Stage, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "preprocessing": self.preprocessing.to_json()}

    def to_bytes(self) -> bytes:
        """Return the text of `manifest.json` in UTF-8."""
        return (json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Manifest:
        """Return the manifest of a parsed `manifest.json`.

        Raises:
            ValueError, KeyError, TypeError: a field is missing or has an impossible value.
        """
        values = {f.name: content[f.name] for f in fields(cls)}
        for name, kind in (("labels", str), ("prompts", str), ("grid", int)):
            if not all(isinstance(value, kind) for value in values[name]):
                raise ValueError(f"{name} {values[name]}")
            values[name] = tuple(values[name])
        values["preprocessing"] = Preprocessing.from_json(values["preprocessing"])
        values["stages"] = tuple(Stage(**stage) for stage in values["stages"])
        manifest = cls(**values)
        if not 0 < len(manifest.labels) == len(manifest.prompts):
            raise ValueError(f"{len(manifest.labels)} labels, {len(manifest.prompts)} prompts")
        if len(manifest.grid) != 2 or min(manifest.grid) < 1 or not 0 < manifest.tau < math.inf:
            raise ValueError(f"grid {manifest.grid}, tau {manifest.tau}")
        return manifest


def compute_fingerprint(
    graph_sha256: str,
    labels: tuple[str, ...],
    preprocessing: Preprocessing,
    tau: float,
    grid: tuple[int, int],
) -> str:
    """Return 16 hex digits that identify a model: graph, labels, preprocessing, tau and grid.

    Args:
        graph_sha256: of the FP32 graph, in hexadecimal.
    """
    parts = [graph_sha256, labels, preprocessing.to_json(), tau, grid]
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a bundle.

    Raises:
        BundleError: the folder is not a bundle, its format version is unknown, or a field of the
            manifest is damaged or belongs to another model.
    """
    try:
        data = (folder / MANIFEST_NAME).read_bytes()
    except OSError as error:
        is_folder = os.path.isdir(folder)  # noqa: PTH112  (Path.is_dir fails on a name too long)
        reason = f"a folder without {MANIFEST_NAME}" if is_folder else error.strerror
        is_run = os.path.exists(folder / "run.json")  # noqa: PTH110  (Path.exists may raise)
        raise BundleError(
            f"{folder} is not a bundle",
            got="a run of patchct train" if is_run else reason,
            expected=f"a folder with {MANIFEST_NAME}",
            fix=f"patchct export {folder} --out X.patchct" if is_run else None,
        ) from None
    try:
        manifest = _parse_manifest(data, folder)
        names = list(manifest.files.keys())  # an AttributeError where it is not an object
    except BundleError:
        raise
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
        UserError,
    ) as error:
        raise BundleError(f"{folder / MANIFEST_NAME} cannot be read", got=repr(error)) from None
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise BundleError(f"{folder} names a file outside its folder", got=name)
    _check_fingerprint(manifest, folder)
    return manifest


def _check_fingerprint(manifest: Manifest, folder: Path) -> None:
    fp32 = manifest.files.get(graph_name("fp32"))
    if fp32 is None:
        return
    fingerprint = compute_fingerprint(
        fp32, manifest.labels, manifest.preprocessing, manifest.tau, manifest.grid
    )
    if fingerprint != manifest.fingerprint:
        raise BundleError(
            f"{folder / MANIFEST_NAME} was altered",
            got=f"fingerprint {fingerprint} of graph, labels, preprocessing, tau and patch grid",
            expected=f"fingerprint {manifest.fingerprint}",
            fix=EXPORT_AGAIN,
        )


def _parse_manifest(data: bytes, folder: Path) -> Manifest:
    content = json.loads(data)
    version = content["format"]
    if version != FORMAT:
        raise BundleError(
            f"{folder} has an unknown format version",
            got=version,
            expected=FORMAT,
            fix="upgrade patchct-edge, or export the run again with this version",
        )
    return Manifest.from_json(content)
