"""The bundle `NAME.patchct/`: how it is read, verified and changed.

    manifest.json          labels, preprocessing, tau, patch grid, stages, sha256 of every file
    model.fp32.onnx        and model.fp16.onnx, model.int8.onnx, model.int8-fp16.onnx
    calibration.json       thresholds and temperature of each calibrated precision
    engines/               compiled engines

A bundle holds JSON and raw files, never pickle. `bundle.write` creates one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from patchct_edge.bundle.calibration import Calibration
from patchct_edge.bundle.manifest import (
    EXPORT_AGAIN,
    MANIFEST_NAME,
    Stage,
    read_manifest,
)
from patchct_edge.bundle.precisions import PRECISIONS, graph_name
from patchct_edge.bundle.preprocessing import Preprocessing
from patchct_edge.errors import BundleError
from patchct_edge.files import sha256, write_atomically

CALIBRATION_NAME = "calibration.json"


class Bundle:
    """A bundle on disk.

    Raises:
        BundleError: the folder is not a bundle, was altered, or has an unknown format version.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.manifest = read_manifest(self.path)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.manifest.labels

    @property
    def preprocessing(self) -> Preprocessing:
        return self.manifest.preprocessing

    def precisions(self) -> list[str]:
        """Return the precisions that this bundle has a graph for, most exact first."""
        return [p for p in PRECISIONS if graph_name(p) in self.manifest.files]

    def graph_path(self, precision: str) -> Path:
        """Return the path of a graph after checking its hash.

        Args:
            precision: one of `PRECISIONS`, or `INT8_FP16_GRAPH`.

        Raises:
            BundleError: the bundle has no such graph, or the graph was altered.
        """
        name = graph_name(precision)
        if name not in self.manifest.files:
            raise BundleError(
                f"{self.path} has no {precision} graph",
                expected=" or ".join(self.precisions()),
                fix="patchct export RUN --out X.patchct --quant-data DATA",
            )
        self.verify(name)
        return self.path / name

    def file_path(self, name: str) -> Path:
        """Return the path of a file that the manifest names.

        Raises:
            BundleError: the file is missing.
        """
        path = self.path / name
        if not os.path.isfile(path):  # noqa: PTH113  (Path.is_file fails on a name too long)
            raise BundleError(f"{self.path} lacks a file", got=f"no {name}", fix=EXPORT_AGAIN)
        return path

    def verify(self, name: str | None = None) -> None:
        """Check the sha256 of one file, or of all files.

        Raises:
            BundleError: a file is missing or altered.
        """
        for file_name in [name] if name else self.manifest.files:
            path = self.file_path(file_name)
            digest, expected = sha256(path), self.manifest.files[file_name]
            if digest != expected:
                raise BundleError(
                    f"{path} was altered",
                    got=f"sha256 {digest}",
                    expected=f"sha256 {expected}",
                    fix=EXPORT_AGAIN,
                )

    def failed_stages(self, precision: str) -> list[Stage]:
        """Return the stages of a precision that did not pass their gate."""
        return [s for s in self.manifest.stages if s.name == precision and not s.passed]

    def calibration(self, precision: str) -> Calibration:
        """Return the calibration of a precision, or the default where it was not calibrated."""
        record = self.calibration_record(precision)
        if record is None:
            return Calibration.default(len(self.labels))
        return Calibration.from_json(record, self.labels)

    def calibration_record(self, precision: str) -> dict[str, Any] | None:
        """Return the entry of a precision in calibration.json, with the data it was fitted on.

        Raises:
            BundleError: calibration.json was altered or cannot be read.
        """
        if CALIBRATION_NAME not in self.manifest.files:
            return None
        self.verify(CALIBRATION_NAME)
        try:
            record: dict[str, Any] | None = self._read_calibrations().get(precision)
        except (ValueError, AttributeError, RecursionError) as error:
            raise BundleError(
                f"{self.path / CALIBRATION_NAME} cannot be read",
                got=repr(error),
                fix=EXPORT_AGAIN,
            ) from None
        return record

    def store_calibrations(self, records: Mapping[str, dict[str, Any]]) -> Bundle:
        """Write the calibrations of some precisions, leave the others; return the new bundle.

        A calibration.json that is damaged or was altered is replaced whole.

        Args:
            records: for each precision the fields of `Calibration.to_json`, and the data they were
                fitted on.
        """
        stored: dict[str, Any] = {}
        try:
            if CALIBRATION_NAME in self.manifest.files:
                self.verify(CALIBRATION_NAME)  # a new hash must not vouch for altered entries
                stored = dict(self._read_calibrations())
        except (BundleError, TypeError, ValueError, RecursionError):
            pass  # damaged: no entry of it can be used
        text = json.dumps({**stored, **records}, indent=2, ensure_ascii=False) + "\n"
        return self.add_files({CALIBRATION_NAME: text.encode()})

    def add_files(self, contents: Mapping[str, bytes]) -> Bundle:
        """Write files into the bundle, the manifest last; return the new bundle.

        Each file is written aside and renamed. The hashes of all other files stay as they were, so
        a damaged file is still refused.

        Args:
            contents: bytes by file name, relative to the bundle.
        """
        for name, data in contents.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        files = dict(sorted({**self.manifest.files, **hashes}.items()))
        write_atomically(self.path / MANIFEST_NAME, replace(self.manifest, files=files).to_bytes())
        return Bundle(self.path)

    def _read_calibrations(self) -> Any:
        return json.loads((self.path / CALIBRATION_NAME).read_bytes())


def find_enclosing_bundle(path: Path) -> Path | None:
    """Return the folder above a file that looks like a bundle, or None."""
    for folder in Path(os.path.realpath(path)).parents:
        has_manifest = os.path.isfile(folder / MANIFEST_NAME)  # noqa: PTH113  (see file_path)
        if has_manifest and any(folder.glob(graph_name("*"))):
            return folder
    return None
