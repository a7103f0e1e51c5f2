"""The CSV of object boxes, to judge heat maps by: `image,label,xmin,ymin,xmax,ymax[,difficult]`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from patchct_edge.datasets.files import csv_records
from patchct_edge.errors import Fault, FaultsError, UserError

EDGES = ("xmin", "ymin", "xmax", "ymax")
REQUIRED = ("image", "label", *EDGES)
COLUMNS = (*REQUIRED, "difficult")


@dataclass(frozen=True)
class ObjectBox:
    """Where an object lies: edges as fractions of the picture's width and height, 0..1."""

    label: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    difficult: bool = False


Boxes = dict[Path, list[ObjectBox]]


def read_boxes(path: Path, labels: Collection[str]) -> Boxes:
    """Read the boxes of every image, by resolved path; names are relative to the CSV.

    Raises:
        FaultsError: the file cannot be read, or rows are faulty; every fault is listed.
        UserError: no row is of one of `labels`; the boxes are of something else.
    """
    what = f"cannot read the boxes {path}"
    faults: list[Fault] = []
    header, records = csv_records(path, what, REQUIRED, COLUMNS, faults)
    found: Boxes = {}
    for row, cells in records:
        try:
            image, box = _box(header, cells)
            file = (path.parent / image).resolve()
        # The name may be none that a file can have, or lead round in links.
        except (ValueError, OSError, RuntimeError) as error:
            faults.append(Fault(str(path), row, str(error)))
            continue
        found.setdefault(file, []).append(box)
    if faults:
        raise FaultsError(what, faults)
    present = set(_labels(found))
    if present.isdisjoint(labels):
        raise UserError(
            "no box has a label of the model",
            got=", ".join(sorted(present)) or "no box at all",
            expected=", ".join(labels),
        )
    return found


def _box(header: list[str], cells: list[str]) -> tuple[str, ObjectBox]:
    """Return the image and the box of a row; a ValueError says what is wrong with it."""
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} cells, expected {len(header)}")
    fields = dict(zip(header, map(str.strip, cells), strict=True))
    for name in ("image", "label"):
        if not fields[name]:
            raise ValueError(f"no {name}")
    edges = []
    for name in EDGES:
        try:
            edges.append(float(fields[name]))
        except ValueError:
            raise ValueError(f"{name} is '{fields[name]}', expected a number") from None
    xmin, ymin, xmax, ymax = edges
    if not (0 <= xmin < xmax <= 1 and 0 <= ymin < ymax <= 1):
        raise ValueError(f"the box {edges} is not within 0..1, least first: fractions are expected")
    difficult = fields.get("difficult", "") or "0"
    if difficult not in ("0", "1"):
        raise ValueError(f"difficult is '{difficult}', expected 0 or 1")
    return fields["image"], ObjectBox(fields["label"], xmin, ymin, xmax, ymax, difficult == "1")


def _labels(boxes: Boxes) -> Iterator[str]:
    return (box.label for each in boxes.values() for box in each)
