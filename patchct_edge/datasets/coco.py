"""Datasets as a COCO JSON: images, annotations and categories."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from patchct_edge.datasets.dataset import Dataset, Sample
from patchct_edge.datasets.files import collect_labels, find_first_file, read_text
from patchct_edge.errors import Fault, FaultsError

Table = dict[int, dict[str, Any]]
REQUIRED_FIELDS: dict[str, dict[str, type]] = {
    "images": {"id": int, "file_name": str},
    "categories": {"id": int, "name": str},
    "annotations": {"id": int, "image_id": int, "category_id": int},
}
TYPE_NAMES = {int: "a whole number", str: "text"}
# At the start of a word: `latest` and `retrieval` name no split.
SPLIT_WORD = re.compile(r"(?<![a-z])(train|val|test)", re.IGNORECASE)


def read_coco(path: Path, images: Path | None = None) -> Dataset:
    """Read all of a COCO JSON; its label set is every category, in file order.

    A label is difficult if an image has only crowds (`iscrowd`) of it. The split of an image is its
    `split` key, else the split that its folder or the JSON's name contains.

    Args:
        images: the folder of the image files; without it, or for files that it lacks, the folders
            near the JSON are searched.

    Raises:
        FaultsError: the file is not a COCO JSON, its entries contradict each other, or image files
            are missing; every fault is listed.
    """
    problem = f"cannot read the dataset {path}"
    faults: list[Fault] = []

    def add_fault(message: str) -> None:
        faults.append(Fault(str(path), None, message))

    tables = {
        key: _index_by_id(key, entries, add_fault)
        for key, entries in _read_lists(path, problem).items()
    }
    labels = _read_labels(tables["categories"], add_fault)
    objects = _collect_objects(tables, labels, add_fault)
    folders = list(_iter_image_folders(path, images))
    samples: dict[Path, Sample] = {}
    fix = None
    for image, entry in tables["images"].items():
        if not entry:
            continue
        name, split = entry["file_name"], entry.get("split")
        file = find_first_file(folder / name for folder in folders)
        if file is None:
            add_fault(f"image {image}: no such file: '{name}'")
            fix = "name the folder of the image files with --images FOLDER"
        elif file in samples:
            add_fault(f"image {image}: another image has the file '{name}' too")
        elif not (split is None or isinstance(split, str)):
            add_fault(f"image {image}: 'split' is not text")
        else:
            split = split or _infer_split(path, name)
            samples[file] = Sample(file, *collect_labels(objects[image]), split=split)
    if faults:
        raise FaultsError(problem, faults, fix=fix)
    return Dataset(tuple(samples.values()), tuple(labels.values()))


def _read_lists(path: Path, problem: str) -> dict[str, list[Any]]:
    """Return the three lists of the file; a FaultsError starts with the sentence `problem`."""
    try:
        data = json.loads(read_text(path, problem))
    except json.JSONDecodeError as error:
        fault = Fault(str(path), error.lineno, f"not JSON: {error.msg}")
        raise FaultsError(problem, [fault]) from None
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
        raise FaultsError(problem, [Fault(str(path), None, f"not JSON: {error}")]) from None
    if not isinstance(data, dict):
        data = {}
    faults = [
        Fault(str(path), None, f"no list '{key}'")
        for key in REQUIRED_FIELDS
        if not isinstance(data.get(key), list)
    ]
    if faults:
        raise FaultsError(problem, faults)
    return {key: data[key] for key in REQUIRED_FIELDS}


def _index_by_id(key: str, entries: list[Any], add_fault: Callable[[str], None]) -> Table:
    """Return the entries of a list by their id.

    A faulty entry becomes {} under its id, so that entries which refer to it are not faults too.
    """
    table: Table = {}
    for n, entry in enumerate(entries):
        if not isinstance(entry, dict):
            add_fault(f"{key}[{n}] is not an object")
            continue
        wrong = [
            name for name, kind in REQUIRED_FIELDS[key].items() if type(entry.get(name)) is not kind
        ]
        for name in wrong:
            add_fault(f"{key}[{n}]: '{name}' is not {TYPE_NAMES[REQUIRED_FIELDS[key][name]]}")
        if "id" in wrong:
            continue
        if entry["id"] in table:
            add_fault(f"{key}[{n}]: id {entry['id']} occurs twice")
        table.setdefault(entry["id"], {} if wrong else entry)
    return table


def _read_labels(categories: Table, add_fault: Callable[[str], None]) -> dict[int, str]:
    """Return the label of each category by its id; "" if the category is faulty."""
    labels = {category: entry.get("name", "").strip() for category, entry in categories.items()}
    counts = Counter(labels.values())
    for category, label in labels.items():
        if categories[category] and not label:
            add_fault(f"category {category}: the name is empty")
        elif label and counts[label] > 1:
            add_fault(f"category {category}: another category is named '{label}' too")
    return labels


def _collect_objects(
    tables: dict[str, Table], labels: dict[int, str], add_fault: Callable[[str], None]
) -> dict[int, list[tuple[str, bool]]]:
    """Return the (label, is a crowd) objects of each image by its id."""
    objects: dict[int, list[tuple[str, bool]]] = defaultdict(list)
    for annotation, entry in tables["annotations"].items():
        if not entry:
            continue
        image, category, crowd = entry["image_id"], entry["category_id"], entry.get("iscrowd", 0)
        if image not in tables["images"]:
            add_fault(f"annotation {annotation}: no image has the id {image}")
        if category not in labels:
            add_fault(f"annotation {annotation}: no category has the id {category}")
        if crowd not in (0, 1):
            add_fault(f"annotation {annotation}: 'iscrowd' is not 0 or 1")
        objects[image].append((labels.get(category, ""), crowd == 1))
    return objects


def _iter_image_folders(path: Path, images: Path | None) -> Iterator[Path]:
    """Yield the folders that may hold the image files, in the order of the search."""
    home = path.parent.resolve()
    named = [part for part in re.split(r"[_.]", path.stem) if SPLIT_WORD.search(part)]
    nearby = (home, home / "images", home.parent, home.parent / "images")
    for folder in nearby if images is None else (images, *nearby):
        yield folder
        yield from (folder / part for part in named)


def _infer_split(path: Path, name: str) -> str | None:
    # The file's own name does not count: `train_04.jpg` may show a train.
    for part in (*Path(name).parent.parts, path.stem):
        if match := SPLIT_WORD.search(part):
            return match[1].lower()
    return None
