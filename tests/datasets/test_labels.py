from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from patchct_edge.datasets import LabelsFile, read_labels_file


@pytest.mark.parametrize(
    ("text", "labels", "prompts"),
    [
        ("dog\ncat\n", ("dog", "cat"), {}),
        ("\ufeffdog\r\n\r\n  # a comment\r\n cat ", ("dog", "cat"), {}),
        ("dog\tA wet dog.\ncat\t\n", ("dog", "cat"), {"dog": "A wet dog."}),
        ("traffic light\nniño\u2028x\n", ("traffic light", "niño\u2028x"), {}),
    ],
)
def test_labels_and_prompts(
    tmp_path: Path, text: str, labels: tuple[str, ...], prompts: dict[str, str]
) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(text.encode())
    assert read_labels_file(file) == LabelsFile(labels, prompts)


@pytest.mark.parametrize(
    ("data", "faults"),
    [
        (
            b"dog\ncat\n dog\ncat\n",
            [(3, "label 'dog' is already in row 1"), (4, "label 'cat' is already in row 2")],
        ),
        (b"dog\n\tA wet dog.\n", [(2, "a prompt without a label")]),
        (b"# nothing\n", [(None, "the file has no label")]),
        (b"dog\n\xff\n", [(2, "not UTF-8 text; save the file as UTF-8")]),
        (None, [(None, "cannot be read: No such file or directory")]),
    ],
)
def test_faults(
    tmp_path: Path, collect_faults: Callable[..., Any], data: bytes | None, faults: list[Any]
) -> None:
    file = tmp_path / "labels.txt"
    if data is not None:
        file.write_bytes(data)
    assert collect_faults(lambda: read_labels_file(file)) == faults
