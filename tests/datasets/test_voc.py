from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from patchct_edge.datasets import read_dataset
from patchct_edge.errors import FaultsError

Writer = Callable[..., Path]


def test_labels_difficult_and_splits(write_voc: Writer, summarize: Callable[..., Any]) -> None:
    root = write_voc(
        {"a": "dog cat* dog*", "b": "", "c": "cow* cow*", "d": "dog", "e": "dog"},
        train="a",
        val="b",
        trainval="a b c",
        test="d",
    )
    dataset = read_dataset(root)
    assert summarize(dataset) == {
        "a.jpg": ("dog|cat", "cat", "train"),
        "b.jpg": ("", "", "val"),
        "c.jpg": ("cow", "cow", "train"),
        "d.jpg": ("dog", "", "test"),
        "e.jpg": ("dog", "", None),
    }
    assert dataset.label_set == ("cat", "cow", "dog")


def test_without_image_sets_there_is_no_split(write_voc: Writer) -> None:
    assert [s.split for s in read_dataset(write_voc({"a": "dog", "b": "cat"})).samples] == [
        None
    ] * 2


def test_the_photo_may_be_the_file_that_the_annotation_names(write_voc: Writer) -> None:
    root = write_voc({"a": "dog"})
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
    write_voc: Writer, collect_faults: Callable[..., Any], xml: str, row: int | None, message: str
) -> None:
    root = write_voc({"a": "dog"})
    (root / "Annotations" / "a.xml").write_text(xml)
    [fault] = collect_faults(lambda: read_dataset(root))
    assert fault[0] == row
    assert fault[1].startswith(message)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_declarations_cannot_hide_in_another_encoding(
    write_voc: Writer, collect_faults: Callable[..., Any], encoding: str
) -> None:
    root = write_voc({"a": "dog"})
    xml = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE annotation><annotation/>'
    (root / "Annotations" / "a.xml").write_bytes(xml.encode(encoding))
    fault = (None, "a DOCTYPE, an ENTITY or a NUL is not allowed")
    assert collect_faults(lambda: read_dataset(root)) == [fault]


@pytest.mark.parametrize(
    ("lists", "faults"),
    [
        ({"train": "a z"}, [(2, "no annotation of 'z'")]),
        ({"train": "a b", "val": "b"}, [(1, "'b' is in the split train too")]),
        ({"val": "a", "test": "b a", "trainval": "a b"}, [(2, "'a' is in the split val too")]),
    ],
)
def test_lists_with_faults(
    write_voc: Writer, collect_faults: Callable[..., Any], lists: dict[str, str], faults: list[Any]
) -> None:
    root = write_voc({"a": "dog", "b": "cat"}, **lists)
    assert collect_faults(lambda: read_dataset(root)) == faults


def test_blank_lines_of_a_list_are_skipped(write_voc: Writer) -> None:
    root = write_voc({"a": "dog", "b": "cat"}, train="a", val="b")
    for name in ("train", "val"):
        file = root / "ImageSets" / "Main" / f"{name}.txt"
        file.write_text(f"\n{file.read_text()}\n\n")
    assert [sample.split for sample in read_dataset(root).samples] == ["train", "val"]


def test_all_faults_are_listed_at_once(write_voc: Writer) -> None:
    root = write_voc({"a": "dog", "b": "cat", "c": "cow"}, train="z")
    (root / "JPEGImages" / "a.jpg").unlink()
    (root / "Annotations" / "b.xml").write_text("<annotation>")
    (root / "ImageSets" / "Main" / "val.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(FaultsError, match="cannot read the dataset") as caught:
        read_dataset(root)
    assert [(Path(str(fault.file)).name, fault.row) for fault in caught.value.faults] == [
        ("train.txt", 1),
        ("val.txt", 2),
        ("a.xml", None),
        ("b.xml", 1),
    ]


def test_an_annotation_without_an_object_is_an_image_without_labels(
    write_voc: Writer, summarize: Callable[..., Any]
) -> None:
    root = write_voc({"a": "dog", "b": ""})
    (root / "Annotations" / "b.xml").write_text("<annotation/>")
    assert summarize(read_dataset(root)) == {"a.jpg": ("dog", "", None), "b.jpg": ("", "", None)}
