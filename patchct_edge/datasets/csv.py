"""Datasets as a CSV with the columns `image,labels` and, optionally, `split` and `difficult`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from patchct_edge.datasets.dataset import Dataset, Sample
from patchct_edge.datasets.files import describe_file_problem, read_csv_records
from patchct_edge.errors import Fault, FaultsError

REQUIRED_COLUMNS = ("image", "labels")
COLUMNS = (*REQUIRED_COLUMNS, "split", "difficult")


def read_csv(path: Path) -> Dataset:
    """Read all of a CSV; its label set is every label, sorted.

    Raises:
        FaultsError: the file cannot be read, or its columns, its rows or its image files are
            faulty; every fault is listed.
    """
    problem = f"cannot read the dataset {path}"
    faults: list[Fault] = []
    header, records = read_csv_records(path, problem, REQUIRED_COLUMNS, COLUMNS, faults)

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
            labels=_split_labels(fields["labels"]),
            difficult=_split_labels(fields.get("difficult", "")),
            split=fields.get("split", "").strip() or None,
            row=row,
        )
        messages = list(_find_faults(sample, fields["image"]))
        if rows.setdefault(sample.path, row) != row:
            messages.append(f"image '{fields['image']}' is already in row {rows[sample.path]}")
        faults += [Fault(str(path), row, message) for message in messages]
        samples.append(sample)
    if faults:
        raise FaultsError(problem, faults)
    return Dataset(tuple(samples), tuple(sorted({label for s in samples for label in s.labels})))


def _split_labels(cell: str) -> tuple[str, ...]:
    """Return the labels of a cell such as `a|b`, in order, without repetition."""
    if not cell.strip():
        return ()
    return tuple(dict.fromkeys(label.strip() for label in cell.split("|")))


def _find_faults(sample: Sample, image: str) -> Iterator[str]:
    if not image.strip():
        yield "the column 'image' is empty"
    elif problem := describe_file_problem(sample.path):
        yield f"{problem}: '{image}'"
    if "" in sample.labels + sample.difficult:
        yield "an empty label next to a '|'"
    for label in sample.difficult:
        if label and label not in sample.labels:
            yield f"difficult label '{label}' is not among the labels of the image"
