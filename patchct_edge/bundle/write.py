"""How a new bundle is written: into a folder beside its target, renamed when it is whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from patchct_edge.bundle.manifest import MANIFEST_NAME, Manifest
from patchct_edge.errors import BundleError, UserError
from patchct_edge.files import sha256, write_atomically

BUNDLE_SUFFIX = ".patchct"


@contextmanager
def create_bundle(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target` that replaces `target` if the block succeeds.

    If the block fails, the folder is kept as `target` + ".failed" for inspection, and `target` is
    left untouched.

    Raises:
        BundleError: `target` has another suffix, or exists and is not a bundle.
        UserError: the folder cannot be created there.
    """
    if target.suffix != BUNDLE_SUFFIX:
        raise BundleError(
            f"a bundle's name must end in {BUNDLE_SUFFIX}",
            got=target.name,
            expected=f"{target.stem}{BUNDLE_SUFFIX}",
        )
    try:
        if target.exists() and not (target / MANIFEST_NAME).is_file():
            raise BundleError(f"{target} exists and is not a bundle", fix="choose another name")
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
    """Write `manifest.json` with the hashes of all other files of the folder, as the last file."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    hashes = {name: sha256(folder / name) for name in names if name != MANIFEST_NAME}
    write_atomically(folder / MANIFEST_NAME, replace(manifest, files=hashes).to_bytes())
