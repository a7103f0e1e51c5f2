from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from patchct_edge.datasets import read_dataset
from patchct_edge.errors import FaultsError

Make = Callable[..., Path]


def test_labels_difficult_and_splits(voc_set: Make, brief: Callable[..., Any]) -> None:
    root = voc_set(
        {"a": "dog cat* dog*", "b": "", "c": "cow* cow*", "d": "dog", "e": "dog"},
        train="a",
        val="b",
        trainval="a b c",
        test="d",
    )
    data = read_dataset(root)
    assert brief(data) == {
        "a.jpg": ("dog|cat", "cat", "train"),
        "b.jpg": ("", "", "val"),
        "c.jpg": ("cow", "cow", "train"),
        "d.jpg": ("dog", "", "test"),
        "e.jpg": ("dog", "", None),
    }
    assert data.label_set == ("cat", "cow", "dog")


def test_without_image_sets_there_is_no_split(voc_set: Make) -> None:
    assert [s.split for s in read_dataset(voc_set({"a": "dog", "b": "cat"})).samples] == [None] * 2


def test_the_picture_may_be_the_file_that_the_annotation_names(voc_set: Make) -> None:
    root = voc_set({"a": "dog"})
    (root / "JPEGImages" / "a.jpg").rename(root / "JPEGImages" / "other.png")
    xml = root / "Annotations" / "a.xml"
    xml.write_text(xml.read_text().replace("a.jpg", "other.png"))
    assert read_dataset(root).paths == [root / "JPEGImages" / "other.png"]


@pytest.mark.parametrize(
    ("xml", "row", "message"),
    [
        ("<annotation>\n<object>\n</annotation>", 3, "not XML: "),
        ("", 1, "not XML: "),
        ("<html/>", None, "the root is <html>, expected <annotation>"),
        ("<annotation><object/></annotation>", None, "object 1 has no name"),
        (
            "<annotation><object><name>x</name><difficult>2</difficult></object></annotation>",
            None,
            "object 1: difficult is '2', expected 0 or 1",
        ),
        (
            '<!DOCTYPE annotation [<!ENTITY a "dog"><!ENTITY b "&a;&a;">]>'
            "<annotation><object><name>&b;</name></object></annotation>",
            None,
            "a DOCTYPE, an ENTITY or a NUL is not allowed",
        ),
    ],
)
def test_an_annotation_with_a_fault(
    voc_set: Make, faults_of: Callable[..., Any], xml: str, row: int | None, message: str
) -> None:
    root = voc_set({"a": "dog"})
    (root / "Annotations" / "a.xml").write_text(xml)
    [fault] = faults_of(lambda: read_dataset(root))
    assert fault[0] == row
    assert fault[1].startswith(message)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_declarations_cannot_hide_in_another_encoding(
    voc_set: Make, faults_of: Callable[..., Any], encoding: str
) -> None:
    root = voc_set({"a": "dog"})
    xml = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE annotation><annotation/>'
    (root / "Annotations" / "a.xml").write_bytes(xml.encode(encoding))
    fault = (None, "a DOCTYPE, an ENTITY or a NUL is not allowed")
    assert faults_of(lambda: read_dataset(root)) == [fault]


@pytest.mark.parametrize(
    ("lists", "faults"),
    [
        ({"train": "a z"}, [(2, "no annotation of 'z'")]),
        ({"train": "a b", "val": "b"}, [(1, "'b' is in the split train too")]),
        ({"val": "a", "test": "b a", "trainval": "a b"}, [(2, "'a' is in the split val too")]),
    ],
)
def test_lists_with_faults(
    voc_set: Make, faults_of: Callable[..., Any], lists: dict[str, str], faults: list[Any]
) -> None:
    root = voc_set({"a": "dog", "b": "cat"}, **lists)
    assert faults_of(lambda: read_dataset(root)) == faults


def test_blank_lines_of_a_list_are_skipped(voc_set: Make) -> None:
    root = voc_set({"a": "dog", "b": "cat"}, train="a", val="b")
    for name in ("train", "val"):
        file = root / "ImageSets" / "Main" / f"{name}.txt"
        file.write_text(f"\n{file.read_text()}\n\n")
    assert [sample.split for sample in read_dataset(root).samples] == ["train", "val"]


def test_all_faults_are_listed_at_once(voc_set: Make) -> None:
    root = voc_set({"a": "dog", "b": "cat", "c": "cow"}, train="z")
    (root / "JPEGImages" / "a.jpg").unlink()
    (root / "Annotations" / "b.xml").write_text("<annotation>")
    (root / "ImageSets" / "Main" / "val.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(FaultsError, match="cannot read the data set") as caught:
        read_dataset(root)
    assert [(Path(fault.file).name, fault.row) for fault in caught.value.faults] == [
        ("train.txt", 1),
        ("val.txt", 2),
        ("a.xml", None),
        ("b.xml", 1),
    ]


def test_an_annotation_without_an_object_is_an_image_without_labels(
    voc_set: Make, brief: Callable[..., Any]
) -> None:
    root = voc_set({"a": "dog", "b": ""})
    (root / "Annotations" / "b.xml").write_text("<annotation/>")
    assert brief(read_dataset(root)) == {"a.jpg": ("dog", "", None), "b.jpg": ("", "", None)}
