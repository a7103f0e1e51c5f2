"""Object boxes, which label maps are compared with, from a CSV.

Its columns are `image,label,xmin,ymin,xmax,ymax` and, optionally, `difficult`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from patchct_edge.datasets.files import read_csv_records
from patchct_edge.errors import Fault, FaultsError, UserError

EDGE_COLUMNS = ("xmin", "ymin", "xmax", "ymax")
REQUIRED_COLUMNS = ("image", "label", *EDGE_COLUMNS)
COLUMNS = (*REQUIRED_COLUMNS, "difficult")


@dataclass(frozen=True)
class ObjectBox:
    """The box of an object; edges are fractions of the photo's width and height, 0..1."""

    label: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    difficult: bool = False


Boxes = dict[Path, list[ObjectBox]]


def read_boxes(path: Path, labels: Collection[str]) -> Boxes:
    """Read the boxes of every photo, by resolved path; names are relative to the CSV.

    Raises:
        FaultsError: the file cannot be read, or rows are faulty; every fault is listed.
        UserError: no box has one of `labels`: they belong to another dataset.
    """
    problem = f"cannot read the boxes {path}"
    faults: list[Fault] = []
    header, records = read_csv_records(path, problem, REQUIRED_COLUMNS, COLUMNS, faults)
    boxes_by_image: Boxes = {}
    for row, cells in records:
        try:
            image, box = _parse_box(header, cells)
            file = (path.parent / image).resolve()
        # The name may be impossible for a file, or a link that leads to itself.
        except (ValueError, OSError, RuntimeError) as error:
            faults.append(Fault(str(path), row, str(error)))
            continue
        boxes_by_image.setdefault(file, []).append(box)
    if faults:
        raise FaultsError(problem, faults)
    present = {box.label for boxes in boxes_by_image.values() for box in boxes}
    if present.isdisjoint(labels):
        raise UserError(
            "no box has a label of the model",
            got=", ".join(sorted(present)) or "no box at all",
            expected=", ".join(labels),
        )
    return boxes_by_image


def _parse_box(header: list[str], cells: list[str]) -> tuple[str, ObjectBox]:
    """Return the image and the box of a row.

    Raises:
        ValueError: the row is faulty; the message says how.
    """
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} cells, expected {len(header)}")
    fields = dict(zip(header, map(str.strip, cells), strict=True))
    for name in ("image", "label"):
        if not fields[name]:
            raise ValueError(f"no {name}")
    edges = []
    for name in EDGE_COLUMNS:
        try:
            edges.append(float(fields[name]))
        except ValueError:
            raise ValueError(f"{name} is '{fields[name]}', expected a number") from None
    xmin, ymin, xmax, ymax = edges
    if not (0 <= xmin < xmax <= 1 and 0 <= ymin < ymax <= 1):
        raise ValueError(f"edges {edges}, expected fractions of the photo, 0..1, with min < max")
    difficult = fields.get("difficult", "") or "0"
    if difficult not in ("0", "1"):
        raise ValueError(f"difficult is '{difficult}', expected 0 or 1")
    return fields["image"], ObjectBox(fields["label"], xmin, ymin, xmax, ymax, difficult == "1")
