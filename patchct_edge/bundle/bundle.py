"""The bundle `NAME.patchct/`: what is in it, how it is written, read and verified.

    manifest.json          labels, preprocessing, tau, patch grid, stages, sha256 of every file
    model.fp32.onnx        and model.fp16.onnx, model.int8.onnx, model.int8-fp16.onnx
    calibration.json       thresholds and temperature for each precision, where made
    engines/               compiled engines, where made

JSON and raw files, never pickle. A bundle is written aside and renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from patchct_edge.bundle.calibration import Calibration
from patchct_edge.bundle.manifest import FORMAT, Manifest, Stage
from patchct_edge.bundle.preprocessing import Preprocessing
from patchct_edge.errors import BundleError, UserError, did_you_mean
from patchct_edge.files import write_atomically

SUFFIX = ".patchct"
MANIFEST = "manifest.json"
CALIBRATION = "calibration.json"
PRECISIONS = ("fp32", "fp16", "int8")
INT8_FOR_GPU = "int8-fp16"  # the INT8 graph with FP16 around, for TensorRT


class Bundle:
    """A bundle on disk, opened for reading.

    Raises:
        BundleError: no bundle, an altered one, or one of a format this version does not know.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.manifest = _read_manifest(self.path)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.manifest.labels

    def precisions(self) -> list[str]:
        """The precisions that this bundle has a graph for, most exact first."""
        return [p for p in PRECISIONS if graph_name(p) in self.manifest.files]

    def model(self, precision: str) -> Path:
        """Return the path of a graph whose hash has been checked."""
        name = graph_name(precision)
        if name not in self.manifest.files:
            raise BundleError(
                f"{self.path} has no {precision} graph",
                expected=" or ".join(self.precisions()),
                fix="patchct export RUN --out X.patchct --calib DATA",
            )
        self.verify(name)
        return self.path / name

    def calibration(self, precision: str) -> Calibration:
        """Return the calibration of a precision, or the default."""
        found = self.calibration_record(precision)
        if found is None:
            return Calibration.default(len(self.labels))
        return Calibration.from_json(found, self.labels)

    def calibration_record(self, precision: str) -> dict[str, Any] | None:
        """Return what calibration.json says of a precision: also what it was made from."""
        if CALIBRATION not in self.manifest.files:
            return None
        self.verify(CALIBRATION)
        try:
            found: dict[str, Any] | None = self._calibrations().get(precision)
        except (ValueError, AttributeError, RecursionError) as error:
            raise BundleError(
                f"{self.path / CALIBRATION} cannot be read", got=repr(error), fix=_EXPORT_AGAIN
            ) from None
        return found

    def calibrated(self, records: Mapping[str, dict[str, Any]]) -> Bundle:
        """Write the calibrations of some precisions, keep the others; return the bundle as it is.

        Args:
            records: for each precision what `Calibration.to_json` returned, and what it was made
                from.
        """
        kept: dict[str, Any] = {}
        try:
            if CALIBRATION in self.manifest.files:
                self.verify(CALIBRATION)  # what was altered must not be vouched for
                kept = dict(self._calibrations())
        except (BundleError, TypeError, ValueError, RecursionError):
            pass  # damaged: no precision of it can be used
        text = json.dumps({**kept, **records}, indent=2, ensure_ascii=False) + "\n"
        return add_files(self, {CALIBRATION: text.encode()})

    def _calibrations(self) -> Any:
        return json.loads((self.path / CALIBRATION).read_bytes())

    def failed_stages(self, precision: str) -> list[Stage]:
        """Return the stages of a precision that did not pass their gate."""
        return [s for s in self.manifest.stages if s.name == precision and not s.passed]

    def file(self, name: str) -> Path:
        """Return the path of a file that the manifest names.

        Raises:
            BundleError: it is missing.
        """
        path = self.path / name
        if not os.path.isfile(path):  # noqa: PTH113  (Path.is_file fails on a name too long)
            raise BundleError(f"{self.path} lacks a file", got=f"no {name}", fix=_EXPORT_AGAIN)
        return path

    def verify(self, name: str | None = None) -> None:
        """Check the sha256 of one file, or of all of them.

        Raises:
            BundleError: a file is missing or altered.
        """
        for each in [name] if name else self.manifest.files:
            path = self.file(each)
            found = sha256(path)
            if found != self.manifest.files[each]:
                raise BundleError(
                    f"{path} was altered",
                    got=f"sha256 {found}",
                    expected=f"sha256 {self.manifest.files[each]}",
                    fix=_EXPORT_AGAIN,
                )


_EXPORT_AGAIN = "copy the bundle again, or make it anew with patchct export"


def enclosing_bundle(path: Path) -> Path | None:
    """Return the folder around a file that looks like a bundle, or None."""
    for folder in Path(os.path.realpath(path)).parents:
        if os.path.isfile(folder / MANIFEST) and any(folder.glob(graph_name("*"))):  # noqa: PTH113
            return folder
    return None


def graph_name(precision: str) -> str:
    """File name of a precision's graph."""
    return f"model.{precision}.onnx"


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(graph: str, labels: tuple[str, ...], preprocessing: Preprocessing) -> str:
    """Identify a model by the sha256 of its FP32 graph, labels and preprocessing: 16 hex digits."""
    text = json.dumps([graph, labels, preprocessing.to_json()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextlib.contextmanager
def new_bundle(target: Path) -> Iterator[Path]:
    """Give a new folder beside `target` that takes its place when the block ends well.

    When the block fails the folder is kept as `target` + ".failed", for inspection; what stood at
    `target` is then untouched.

    Raises:
        BundleError: `target` has another suffix, or is something else than a bundle.
        UserError: the folder cannot be made there.
    """
    if target.suffix != SUFFIX:
        raise BundleError(
            "a bundle's name ends in .patchct", got=target.name, expected=f"{target.stem}{SUFFIX}"
        )
    try:
        if target.exists() and not (target / MANIFEST).is_file():
            raise BundleError(f"{target} exists and is no bundle", fix="choose another name")
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise UserError(
            f"cannot write {target}", got=error.strerror, fix="write to another folder"
        ) from None
    aside.chmod(0o755)
    try:
        yield aside
    except BaseException:
        failed = target.with_name(target.name + ".failed")
        shutil.rmtree(failed, ignore_errors=True)
        os.replace(aside, failed)
        raise
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
        os.replace(target, old / "bundle")
        os.replace(aside, target)
        shutil.rmtree(old)
    else:
        os.replace(aside, target)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, with the hashes of all other files in the folder, as the last file."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    hashes = {name: sha256(folder / name) for name in names if name != MANIFEST}
    write_atomically(folder / MANIFEST, _manifest_text({**manifest.to_json(), "files": hashes}))


def add_files(bundle: Bundle, contents: Mapping[str, bytes]) -> Bundle:
    """Write files into a bundle, each aside and renamed, the manifest last; return it as it is now.

    The hashes of all other files stay what they were: a damaged one is not made good by this.
    """
    for name, data in contents.items():
        path = bundle.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    files = dict(sorted({**bundle.manifest.files, **hashes}.items()))
    found = {**bundle.manifest.to_json(), "files": files}
    write_atomically(bundle.path / MANIFEST, _manifest_text(found))
    return Bundle(bundle.path)


def _manifest_text(found: Mapping[str, Any]) -> bytes:
    return (json.dumps(found, indent=2, ensure_ascii=False) + "\n").encode()


def _read_manifest(path: Path) -> Manifest:
    try:
        data = (path / MANIFEST).read_bytes()
    except OSError as error:
        is_run = os.path.exists(path / "run.json")  # noqa: PTH110  (Path.exists may raise)
        raise BundleError(
            f"{path} is no bundle",
            got="a run of patchct train" if is_run else error.strerror,
            expected=f"a folder with {MANIFEST}",
            fix=f"patchct export {path} --out X.patchct" if is_run else None,
        ) from None
    try:
        found = json.loads(data)
        version = found["format"]
        if version != FORMAT:
            raise BundleError(
                f"{path} has another format version",
                got=version,
                expected=FORMAT,
                fix="upgrade patchct-edge, or export the run again with this version",
            )
        manifest = Manifest.from_json(found)
        names = list(manifest.files.keys())
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
        raise BundleError(f"{path / MANIFEST} cannot be read", got=repr(error)) from None
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise BundleError(f"{path} names a file outside its folder", got=name)
    exact = manifest.files.get(graph_name("fp32"))
    if (
        exact
        and fingerprint(exact, manifest.labels, manifest.preprocessing) != manifest.fingerprint
    ):
        raise BundleError(
            f"{path / MANIFEST} was altered",
            got=f"labels, preprocessing or FP32 graph of another model than {manifest.fingerprint}",
            fix=_EXPORT_AGAIN,
        )
    return manifest


def check_precision(name: str) -> str:
    """Check a precision's name; a BundleError suggests the right one."""
    if name not in PRECISIONS:
        raise BundleError("unknown precision", got=name, expected=did_you_mean(name, PRECISIONS))
    return name
