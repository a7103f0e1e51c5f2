"""Loading `transformers` models, from the hub or a folder: quietly, and what it may raise."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from transformers.utils import logging

from patchct_edge.errors import UserError

logging.set_verbosity_error()
logging.disable_progress_bar()

LOAD_ERRORS = (OSError, ValueError, SafetensorError)


def refuse_missing_folder(kind: str, source: str) -> None:
    """Refuse what can be no hub id and is no folder, before the hub is asked for it."""
    is_a_path = source.startswith((".", "/", "~")) or source.count("/") > 1
    if is_a_path and not Path(source).is_dir():
        raise no_model(kind, source, FileNotFoundError("and no hub id has that form"))


def no_model(kind: str, source: str, error: Exception) -> UserError:
    """Say that an encoder cannot be loaded."""
    return UserError(
        f"cannot load the {kind} encoder",
        got=f"no folder {source} here; {str(error).splitlines()[0]}"
        if not Path(source).is_dir()
        else f"{source} ({str(error).splitlines()[0]})",
        expected="a hub id, or a folder with config.json and model.safetensors",
    )
