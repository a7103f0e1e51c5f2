"""Datasets as a VOC folder: Annotations, JPEGImages and ImageSets/Main."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from xml.etree import ElementTree

from patchct_edge.datasets.dataset import Dataset, Sample
from patchct_edge.datasets.files import collect_labels, find_first_file, read_text
from patchct_edge.errors import Fault, FaultsError

PROBLEM = "cannot read the dataset"
# trainval comes last: it does not matter for an image of another list.
SPLIT_LISTS = {"train": "train", "val": "val", "test": "test", "trainval": "train"}


def read_voc(root: Path) -> Dataset:
    """Read every annotation of a VOC folder; its label set is every label, sorted.

    The photo of `Annotations/NAME.xml` is `JPEGImages/NAME.jpg`, else the file that the annotation
    names. A label is difficult if all of its objects are.

    Raises:
        FaultsError: files are missing or faulty; every fault is listed.
    """
    faults: list[Fault] = []
    files = {file.stem: file for file in sorted((root / "Annotations").glob("*.xml"))}
    splits = _read_splits(root / "ImageSets" / "Main", files, faults)
    samples: list[Sample] = []
    for name, file in files.items():
        try:
            annotation = _parse_annotation(file)
            labels, difficult = collect_labels(_read_objects(file, annotation))
        except FaultsError as error:
            faults += error.faults
            continue
        names = (f"{name}.jpg", annotation.findtext("filename") or f"{name}.jpg")
        path = find_first_file(root / "JPEGImages" / candidate for candidate in names)
        if path is None:
            faults.append(Fault(str(file), None, f"no such file: 'JPEGImages/{names[0]}'"))
            continue
        samples.append(Sample(path, labels, difficult, splits.get(name)))
    if faults:
        raise FaultsError(f"{PROBLEM} {root}", faults)
    return Dataset(tuple(samples), tuple(sorted({label for s in samples for label in s.labels})))


def _read_splits(folder: Path, names: Collection[str], faults: list[Fault]) -> dict[str, str]:
    """Return the split of each image that a list in `folder` contains."""
    splits: dict[str, str] = {}
    for stem, split in SPLIT_LISTS.items():
        file = folder / f"{stem}.txt"
        if not file.exists():
            continue
        try:
            lines = read_text(file, PROBLEM).split("\n")
        except FaultsError as error:
            faults += error.faults
            continue
        for row, name in enumerate(map(str.strip, lines), start=1):
            if not name:
                continue
            if name not in names:
                faults.append(Fault(str(file), row, f"no annotation of '{name}'"))
            elif splits.setdefault(name, split) != split and stem != "trainval":
                message = f"'{name}' is in the split {splits[name]} too"
                faults.append(Fault(str(file), row, message))
    return splits


def _parse_annotation(file: Path) -> ElementTree.Element:
    text = read_text(file, PROBLEM)
    # An annotation needs no declarations, and entities can expand a small file beyond all memory.
    # NULs come from an encoding that the parser would guess, and so read declarations after all.
    if any(mark in text for mark in ("<!DOCTYPE", "<!ENTITY", "\0")):
        message = "a DOCTYPE, an ENTITY or a NUL is not allowed"
        raise FaultsError(PROBLEM, [Fault(str(file), None, message)])
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        fault = Fault(str(file), error.position[0], f"not XML: {error}")
        raise FaultsError(PROBLEM, [fault]) from None
    if root.tag != "annotation":
        fault = Fault(str(file), None, f"the root is <{root.tag}>, expected <annotation>")
        raise FaultsError(PROBLEM, [fault])
    return root


def _read_objects(file: Path, annotation: ElementTree.Element) -> list[tuple[str, bool]]:
    """Return the (label, is difficult) objects of an annotation."""
    objects: list[tuple[str, bool]] = []
    faults: list[Fault] = []
    for n, element in enumerate(annotation.findall("object"), start=1):
        label = element.findtext("name", "").strip()
        difficult = element.findtext("difficult", "0").strip()
        if not label:
            faults.append(Fault(str(file), None, f"object {n} has no name"))
        if difficult not in ("0", "1"):
            message = f"object {n}: difficult is '{difficult}', expected 0 or 1"
            faults.append(Fault(str(file), None, message))
        objects.append((label, difficult == "1"))
    if faults:
        raise FaultsError(PROBLEM, faults)
    return objects
