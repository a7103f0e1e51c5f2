"""Loading `transformers` models, from the hub or a folder: quietly, and what it may raise."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from transformers.utils import logging

from patchct_edge.errors import UserError

logging.set_verbosity_error()
logging.disable_progress_bar()

LOAD_ERRORS = (OSError, ValueError, SafetensorError)


def no_model(kind: str, source: str, error: Exception) -> UserError:
    """Say that an encoder cannot be loaded."""
    return UserError(
        f"cannot load the {kind} encoder",
        got=f"no folder {source} here; {str(error).splitlines()[0]}"
        if not Path(source).is_dir()
        else f"{source} ({str(error).splitlines()[0]})",
        expected="a hub id, or a folder with config.json and model.safetensors",
    )
