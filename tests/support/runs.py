"""Helpers for tests of training runs: the rows of their metrics, and their weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

THREE_LABELS = ("red", "green", "blue")


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the metrics file of a run."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def untimed_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the metrics file without the time that each epoch took."""
    return [
        {name: value for name, value in row.items() if name != "seconds"}
        for row in read_rows(folder)
    ]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages of the warnings that were logged."""
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def assert_weights_equal(first: Path, second: Path, *names: str) -> None:
    """Check that the weight files of two runs hold the same tensors, bit for bit."""
    for name in names:
        a, b = (load_file(run / f"{name}.safetensors") for run in (first, second))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a), name
