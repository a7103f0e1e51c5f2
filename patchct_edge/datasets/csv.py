"""The CSV of a data set: `image,labels`, with `split` and `difficult` where there are any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from patchct_edge.datasets.dataset import Dataset, Sample
from patchct_edge.datasets.files import csv_records, file_problem
from patchct_edge.errors import Fault, FaultsError

REQUIRED = ("image", "labels")
COLUMNS = (*REQUIRED, "split", "difficult")


def read_csv(path: Path) -> Dataset:
    """Read a CSV whole; its label set is every label, sorted.

    Raises:
        FaultsError: the file cannot be read, or its columns, its rows or its image files are
            faulty; every fault is listed.
    """
    what = f"cannot read the data set {path}"
    faults: list[Fault] = []
    header, records = csv_records(path, what, REQUIRED, COLUMNS, faults)

    samples: list[Sample] = []
    rows: dict[Path, int] = {}
    for row, cells in records:
        if len(cells) != len(header):
            message = f"{len(cells)} cells, expected {len(header)}"
            faults.append(Fault(str(path), row, message))
            continue
        fields = dict(zip(header, cells, strict=True))
        sample = Sample(
            path=path.parent / fields["image"],
            labels=_labels(fields["labels"]),
            difficult=_labels(fields.get("difficult", "")),
            split=fields.get("split", "").strip() or None,
            row=row,
        )
        messages = list(_sample_faults(sample, fields["image"]))
        if rows.setdefault(sample.path, row) != row:
            messages.append(f"image '{fields['image']}' is already in row {rows[sample.path]}")
        faults += [Fault(str(path), row, message) for message in messages]
        samples.append(sample)
    if faults:
        raise FaultsError(what, faults)
    return Dataset(tuple(samples), tuple(sorted({label for s in samples for label in s.labels})))


def _labels(cell: str) -> tuple[str, ...]:
    """Return the labels of `a|b`, in order, each once."""
    if not cell.strip():
        return ()
    return tuple(dict.fromkeys(label.strip() for label in cell.split("|")))


def _sample_faults(sample: Sample, image: str) -> Iterator[str]:
    if not image.strip():
        yield "no image is named"
    elif problem := file_problem(sample.path):
        yield f"{problem}: '{image}'"
    if "" in sample.labels + sample.difficult:
        yield "an empty label beside a '|'"
    for label in sample.difficult:
        if label and label not in sample.labels:
            yield f"difficult label '{label}' is not among the labels of the image"
