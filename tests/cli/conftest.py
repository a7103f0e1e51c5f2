"""Shared by the tests of the commands: photos of plain colors, and commands as processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patchct_edge import images

COLORS = {"amber.png": (250, 130, 20), "dark.png": (10, 10, 10), "rose.jpg": (255, 20, 140)}
MAIN = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from patchct_edge.cli.app import main; main()"
)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `COLORS`: the tiny bundle tags them red and green, nothing, red and blue."""
    folder = tmp_path_factory.mktemp("colors")
    for name, color in COLORS.items():
        images.save(np.full((9, 9, 3), color, np.uint8), folder / name)
    return folder


@pytest.fixture
def start_cli() -> Callable[..., subprocess.Popen[str]]:
    """Start a `patchct` command as a process, with pipes."""

    def start(*words: object, **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [sys.executable, "-c", MAIN, *map(str, words)], text=True, **{**pipes, **options}
        )

    return start
