"""The COCO JSON of a data set: images, annotations and categories."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from patchct_edge.datasets.dataset import Dataset, Sample
from patchct_edge.datasets.files import first_file, labels_from_objects, read_text
from patchct_edge.errors import Fault, FaultsError

Table = dict[int, dict[str, Any]]
FIELDS: dict[str, dict[str, type]] = {
    "images": {"id": int, "file_name": str},
    "categories": {"id": int, "name": str},
    "annotations": {"id": int, "image_id": int, "category_id": int},
}
KINDS = {int: "a whole number", str: "text"}
# At the start of a word, so that `latest` or `retrieval` names no split.
SPLIT = re.compile(r"(?<![a-z])(train|val|test)", re.IGNORECASE)


def read_coco(path: Path, images: Path | None = None) -> Dataset:
    """Read a COCO JSON whole; its label set is every category, in file order.

    A label is difficult where an image has only crowds (`iscrowd`) of it. Files are looked for
    under `images`, then around the JSON. The split of an image is its `split` key, else what its
    folder or the JSON's name says.

    Raises:
        FaultsError: the file is no COCO JSON, its entries contradict each other, or image files
            are missing; every fault is listed.
    """
    what = f"cannot read the data set {path}"
    faults: list[Fault] = []

    def fault(message: str) -> None:
        faults.append(Fault(str(path), None, message))

    tables = {key: _by_id(key, entries, fault) for key, entries in _lists(path, what).items()}
    labels = _labels(tables["categories"], fault)
    objects = _objects(tables, labels, fault)
    folders = list(_folders(path, images))
    samples: dict[Path, Sample] = {}
    fix = None
    for image, entry in tables["images"].items():
        if not entry:
            continue
        name, split = entry["file_name"], entry.get("split")
        file = first_file(folder / name for folder in folders)
        if file is None:
            fault(f"image {image}: no such file: '{name}'")
            fix = "--images FOLDER says where the image files lie"
        elif file in samples:
            fault(f"image {image}: another image has the file '{name}' too")
        elif not (split is None or isinstance(split, str)):
            fault(f"image {image}: 'split' is not text")
        else:
            split = split or _split(path, name)
            samples[file] = Sample(file, *labels_from_objects(objects[image]), split=split)
    if faults:
        raise FaultsError(what, faults, fix=fix)
    return Dataset(tuple(samples.values()), tuple(labels.values()))


def _lists(path: Path, what: str) -> dict[str, list[Any]]:
    """Return the three lists of the file."""
    try:
        data = json.loads(read_text(path, what))
    except json.JSONDecodeError as error:
        fault = Fault(str(path), error.lineno, f"not JSON: {error.msg}")
        raise FaultsError(what, [fault]) from None
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
        raise FaultsError(what, [Fault(str(path), None, f"not JSON: {error}")]) from None
    if not isinstance(data, dict):
        data = {}
    faults = [
        Fault(str(path), None, f"no list '{key}'")
        for key in FIELDS
        if not isinstance(data.get(key), list)
    ]
    if faults:
        raise FaultsError(what, faults)
    return {key: data[key] for key in FIELDS}


def _by_id(key: str, entries: list[Any], fault: Callable[[str], None]) -> Table:
    """Return the entries of a list by their id.

    A faulty entry is left as {} under its id: what refers to it is no fault of its own.
    """
    table: Table = {}
    for n, entry in enumerate(entries):
        if not isinstance(entry, dict):
            fault(f"{key}[{n}] is not an object")
            continue
        wrong = [name for name, kind in FIELDS[key].items() if type(entry.get(name)) is not kind]
        for name in wrong:
            fault(f"{key}[{n}]: '{name}' is not {KINDS[FIELDS[key][name]]}")
        if "id" in wrong:
            continue
        if entry["id"] in table:
            fault(f"{key}[{n}]: id {entry['id']} is there twice")
        table.setdefault(entry["id"], {} if wrong else entry)
    return table


def _labels(categories: Table, fault: Callable[[str], None]) -> dict[int, str]:
    """Return the label of each category; "" where the category is faulty."""
    labels = {category: entry.get("name", "").strip() for category, entry in categories.items()}
    counts = Counter(labels.values())
    for category, label in labels.items():
        if categories[category] and not label:
            fault(f"category {category}: the name is empty")
        elif label and counts[label] > 1:
            fault(f"category {category}: another category is named '{label}' too")
    return labels


def _objects(
    tables: dict[str, Table], labels: dict[int, str], fault: Callable[[str], None]
) -> dict[int, list[tuple[str, bool]]]:
    """Return the (label, is a crowd) objects of each image."""
    objects: dict[int, list[tuple[str, bool]]] = defaultdict(list)
    for annotation, entry in tables["annotations"].items():
        if not entry:
            continue
        image, category, crowd = entry["image_id"], entry["category_id"], entry.get("iscrowd", 0)
        if image not in tables["images"]:
            fault(f"annotation {annotation}: no image has the id {image}")
        if category not in labels:
            fault(f"annotation {annotation}: no category has the id {category}")
        if crowd not in (0, 1):
            fault(f"annotation {annotation}: 'iscrowd' is not 0 or 1")
        objects[image].append((labels.get(category, ""), crowd == 1))
    return objects


def _folders(path: Path, images: Path | None) -> Iterator[Path]:
    """Yield the folders that may hold the image files, in the order in which they are tried."""
    home = path.parent.resolve()
    named = [part for part in re.split(r"[_.]", path.stem) if SPLIT.search(part)]
    nearby = (home, home / "images", home.parent, home.parent / "images")
    for folder in nearby if images is None else (images, *nearby):
        yield folder
        yield from (folder / part for part in named)


def _split(path: Path, name: str) -> str | None:
    # The picture's own name is not asked: `train_04.jpg` may well show a train.
    for part in (*Path(name).parent.parts, path.stem):
        if match := SPLIT.search(part):
            return match[1].lower()
    return None
