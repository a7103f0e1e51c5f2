"""What loading a `transformers` model needs: quiet libraries, and errors that say what to do."""

from __future__ import annotations

import logging
from pathlib import Path

from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from patchct_edge.errors import UserError

logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs every retry
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

LOAD_ERRORS = (OSError, ValueError, SafetensorError)
ENCODER_OPTIONS = {"image": "--image-encoder", "text": "--label-encoder"}


def check_source(kind: str, source: str) -> None:
    """Check that `source` is a folder or can be a hub id, before the hub is asked.

    Args:
        kind: "image" or "text", for the error message.

    Raises:
        UserError: `source` can only be a path, and there is no such folder.
    """
    is_path = source.startswith((".", "/", "~")) or source.count("/") > 1
    if is_path and not Path(source).is_dir():
        raise encoder_load_error(kind, source, FileNotFoundError("it cannot be a Hugging Face id"))


def encoder_load_error(kind: str, source: str, error: Exception) -> UserError:
    """Return the error of an encoder that cannot be loaded."""
    reason = str(error).splitlines()[0]
    is_folder = Path(source).is_dir()
    return UserError(
        f"cannot load the {kind} encoder",
        got=f"{source} ({reason})" if is_folder else f"no folder {source} here; {reason}",
        expected="a Hugging Face id, or a folder with config.json and model.safetensors",
        fix=f"without a network, pass a folder: {ENCODER_OPTIONS[kind]} FOLDER",
    )
