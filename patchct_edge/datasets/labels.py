"""The labels file: a label set in an order that a person chose, with prompts for some labels."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from patchct_edge.datasets.files import read_text
from patchct_edge.errors import Fault, FaultsError


class LabelsFile(NamedTuple):
    """Labels in file order, and the prompts that replace the default prompt, by label."""

    labels: tuple[str, ...]
    prompts: dict[str, str]


def read_labels_file(path: Path) -> LabelsFile:
    """Read a file with one label per line, optionally followed by a tab and a prompt.

    Blank lines and lines that begin with `#` are skipped.

    Raises:
        FaultsError: the file cannot be read, has no label, a label twice, or a prompt without a
            label; every fault is listed.
    """
    problem = f"cannot read the labels file {path}"
    faults: list[Fault] = []
    rows: dict[str, int] = {}
    prompts: dict[str, str] = {}
    for row, line in enumerate(read_text(path, problem).split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        label, prompt = (part.strip() for part in line.partition("\t")[::2])
        if not label:
            faults.append(Fault(str(path), row, "a prompt without a label"))
        elif label in rows:
            faults.append(Fault(str(path), row, f"label '{label}' is already in row {rows[label]}"))
        else:
            rows[label] = row
            if prompt:
                prompts[label] = prompt
    if not rows and not faults:
        faults.append(Fault(str(path), None, "the file has no label"))
    if faults:
        raise FaultsError(problem, faults)
    return LabelsFile(tuple(rows), prompts)
