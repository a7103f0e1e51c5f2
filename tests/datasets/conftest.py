"""Datasets written into a temporary folder; a photo is any file, since none is opened."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from patchct_edge.datasets import Dataset
from patchct_edge.errors import FaultsError

Rows = list[tuple[int | None, str]]


@pytest.fixture
def write_photos(tmp_path: Path) -> Callable[..., Path]:
    """Write write_photos under the temporary folder, and return it."""

    def write(*names: str) -> Path:
        for name in names:
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"photo")
        return tmp_path

    return write


@pytest.fixture
def write_csv(write_photos: Callable[..., Path]) -> Callable[..., Path]:
    """Write a labels.csv beside a.jpg, b.jpg and c.jpg, and return it."""

    def write(text: str | bytes) -> Path:
        file = write_photos("a.jpg", "b.jpg", "c.jpg") / "labels.csv"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    return write


@pytest.fixture
def write_coco(tmp_path: Path) -> Callable[..., Path]:
    """Write a COCO JSON of short rows, and return it.

    An image is (id, file_name), an annotation (image, category) or (image, category, iscrowd);
    categories are numbered from 1.
    """

    def write(
        images: list[tuple[Any, ...]],
        annotations: Sequence[tuple[Any, ...]] = (),
        categories: str = "cat dog cow",
        name: str = "labels.json",
    ) -> Path:
        def entry(row: tuple[Any, ...], *keys: str) -> dict[str, Any]:
            return dict(zip(keys, row, strict=False))  # the last keys are optional

        data = {
            "images": [entry(row, "id", "file_name", "split") for row in images],
            "annotations": [
                {"id": n, **entry(row, "image_id", "category_id", "iscrowd")}
                for n, row in enumerate(annotations)
            ],
            "categories": [
                {"id": n, "name": label} for n, label in enumerate(categories.split(), start=1)
            ],
        }
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(data))
        return file

    return write


@pytest.fixture
def write_voc(write_photos: Callable[..., Path]) -> Callable[..., Path]:
    """Write a VOC folder and return it.

    `annotations` maps a name to its objects, `label`, or `label*` if difficult; `lists` maps the
    name of a list in ImageSets/Main to the names on it.
    """

    def write(annotations: dict[str, str], **lists: str) -> Path:
        root = write_photos(*(f"JPEGImages/{name}.jpg" for name in annotations))
        (root / "Annotations").mkdir()
        for name, objects in annotations.items():
            body = "".join(
                f"<object><name>{word.rstrip('*')}</name><part><name>head</name></part>"
                f"<difficult>{int(word.endswith('*'))}</difficult></object>"
                for word in objects.split()
            )
            xml = f"<annotation><filename>{name}.jpg</filename>{body}</annotation>"
            (root / "Annotations" / f"{name}.xml").write_text(xml)
        for name, names in lists.items():
            file = root / "ImageSets" / "Main" / f"{name}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(names.split()) + "\n")
        return root

    return write


@pytest.fixture
def collect_faults() -> Callable[[Callable[[], object]], Rows]:
    """Call a function that must raise a FaultsError; return the (row, message) of its faults."""

    def call(read: Callable[[], object]) -> Rows:
        with pytest.raises(FaultsError) as caught:
            read()
        return [(fault.row, fault.message) for fault in caught.value.faults]

    return call


@pytest.fixture
def summarize() -> Callable[[Dataset], dict[str, tuple[str, str, str | None]]]:
    """Return name -> (labels, difficult, split) of a dataset."""

    def table(data: Dataset) -> dict[str, tuple[str, str, str | None]]:
        return {
            s.path.name: ("|".join(s.labels), "|".join(s.difficult), s.split) for s in data.samples
        }

    return table
