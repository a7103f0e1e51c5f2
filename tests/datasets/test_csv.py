from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchct_edge.datasets import read_dataset
from patchct_edge.errors import FaultsError

Writer = Callable[..., Path]

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/|"), max_size=20)
LABEL = TEXT.map(str.strip).filter(bool)
ROW = st.tuples(TEXT, st.lists(LABEL, unique=True, max_size=4))


def test_columns_and_cells(write_csv: Writer, summarize: Callable[..., Any]) -> None:
    file = write_csv(
        "difficult,image,split,labels\ncat,a.jpg,train,dog|cat\n,b.jpg,val,\n,c.jpg,,cow\n"
    )
    dataset = read_dataset(file)
    assert summarize(dataset) == {
        "a.jpg": ("dog|cat", "cat", "train"),
        "b.jpg": ("", "", "val"),
        "c.jpg": ("cow", "", None),
    }
    assert [sample.row for sample in dataset.samples] == [2, 3, 4]
    assert dataset.label_set == ("cat", "dog")


@pytest.mark.parametrize(
    "text",
    [
        "image,labels\na.jpg,dog|cat\n",
        "image;labels\na.jpg;dog|cat\n",
        "image\tlabels\na.jpg\tdog|cat\n",
        "image,labels\r\na.jpg,dog|cat\r\n",
        "image,labels\ra.jpg,dog|cat\r",
        "image,labels\n\na.jpg,dog|cat",
        '\ufeff"image","labels"\r\n"a.jpg","dog|cat"\r\n',
        "image,labels\na.jpg, dog | cat |dog\n",
    ],
    ids=["comma", "semicolon", "tab", "crlf", "cr", "blank line", "excel", "spaces and repeats"],
)
def test_dialects(write_csv: Writer, summarize: Callable[..., Any], text: str) -> None:
    assert summarize(read_dataset(write_csv(text))) == {"a.jpg": ("dog|cat", "", None)}


def test_the_separator_is_read_from_the_header_only(write_csv: Writer) -> None:
    dataset = read_dataset(write_csv("image;labels\na.jpg;dog, small, brown, wet\n"))
    assert dataset.label_set == ("dog, small, brown, wet",)


def test_an_absolute_path_is_taken_as_it_is(write_photos: Writer, tmp_path: Path) -> None:
    photo = write_photos("elsewhere/a.jpg") / "elsewhere" / "a.jpg"
    file = write_photos("set/x.jpg") / "set" / "labels.csv"
    file.write_text(f"image,labels\n{photo},dog\nx.jpg,dog\n")
    assert read_dataset(file).paths == [photo, tmp_path / "set" / "x.jpg"]


@pytest.mark.parametrize(
    ("text", "row", "message"),
    [
        ("", 1, "no column 'image'"),
        ("image\na.jpg\n", 1, "no column 'labels'"),
        ("image,labels,spilt\n", 1, "unknown column 'spilt': did you mean 'split'?"),
        ("image,labels,labels\n", 1, "column 'labels' occurs 2 times"),
        ("image,labels\na.jpg\n", 2, "1 cells, expected 2"),
        ("image,labels\na.jpg,dog\nb.jpg,dog,cat\n", 3, "3 cells, expected 2"),
        ("image,labels\na.jpg,dog\nb.jpg,\na.jpg,cat\n", 4, "image 'a.jpg' is already in row 2"),
        ("image,labels\nz.jpg,dog\n", 2, "no such file: 'z.jpg'"),
        ("image,labels\na.jpg/z.jpg,dog\n", 2, "no such file: 'a.jpg/z.jpg'"),
        ("image,labels\n.,dog\n", 2, "not a regular file: '.'"),
        ("image,labels\n,dog\n", 2, "the column 'image' is empty"),
        ("image,labels\na.jpg,dog||cat\n", 2, "an empty label next to a '|'"),
        (
            "image,labels,difficult\na.jpg,dog,cat\n",
            2,
            "difficult label 'cat' is not among the labels of the image",
        ),
        ('image,labels\na.jpg,"dog\nb.jpg,cat\n', 2, "not CSV: unexpected end of data"),
        ('image,labels\n"a.jpg"x,dog\n', 2, "not CSV: ',' expected after '\"'"),
        (b"image,labels\na.jpg,dog\nb.jpg,pi\xf1a\n", 3, "not UTF-8 text; save the file as UTF-8"),
        (b"\xef\xbb\xbfimage,labels\n\xff", 2, "not UTF-8 text; save the file as UTF-8"),
    ],
)
def test_a_fault_has_its_row(
    write_csv: Writer, collect_faults: Callable[..., Any], text: str | bytes, row: int, message: str
) -> None:
    file = write_csv(text)
    assert (row, message) in collect_faults(lambda: read_dataset(file))


def test_a_name_that_is_too_long_is_a_fault(
    write_csv: Writer, collect_faults: Callable[..., Any]
) -> None:
    file = write_csv(f"image,labels\n{'x' * 5000},dog\n")
    [(row, message)] = collect_faults(lambda: read_dataset(file))
    assert row == 2
    assert message.startswith("cannot be read (")


def test_all_faults_are_listed_at_once(write_csv: Writer) -> None:
    file = write_csv('image,labels,note\nz.jpg,dog,\na.jpg\nb.jpg,"x"y,\nc.jpg,dog||,\n')
    with pytest.raises(FaultsError, match="cannot read the dataset") as caught:
        read_dataset(file)
    assert [fault.row for fault in caught.value.faults] == [1, 2, 3, 4, 5]
    assert {fault.file for fault in caught.value.faults} == {str(file)}


def test_rows_count_lines_inside_quoted_cells(write_csv: Writer) -> None:
    dataset = read_dataset(write_csv('image,labels\na.jpg,"big\ndog"\nb.jpg,cat\n'))
    assert [(sample.labels, sample.row) for sample in dataset.samples] == [
        (("big\ndog",), 2),
        (("cat",), 4),
    ]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(ROW, min_size=1, max_size=5),
    separator=st.sampled_from(",;\t"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_a_table_written_by_csv_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, list[str]]],
    separator: str,
    quoting: int,
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    expected = [(folder / f"{n}{name}", tuple(labels)) for n, (name, labels) in enumerate(rows)]
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=separator, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(["image", "labels"])
    for path, labels in expected:
        path.write_bytes(b"photo")
        writer.writerow([path.name, "|".join(labels)])
    (folder / "labels.csv").write_bytes(stream.getvalue().encode())

    dataset = read_dataset(folder)
    assert [(sample.path, sample.labels) for sample in dataset.samples] == expected
    assert dataset.label_set == tuple(sorted({label for _, labels in expected for label in labels}))


@pytest.mark.parametrize("separator", [",", ";", "\t", ":"])
def test_excels_line_that_names_the_separator(
    write_csv: Writer,
    summarize: Callable[..., Any],
    collect_faults: Callable[..., Any],
    separator: str,
) -> None:
    head = f"sep={separator}\r\nimage{separator}labels\r\n"
    file = write_csv(f"{head}a.jpg{separator}dog|cat\r\n")
    assert summarize(read_dataset(file)) == {"a.jpg": ("dog|cat", "", None)}
    file = write_csv(f"{head}a.jpg\r\n")
    assert collect_faults(lambda: read_dataset(file)) == [(3, "1 cells, expected 2")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_what_excel_saves(write_csv: Writer, summarize: Callable[..., Any], encoding: str) -> None:
    file = write_csv("image,labels\n")
    file.write_bytes("image\tlabels\r\na.jpg\tpiñata|Hund\r\n".encode(encoding))
    assert summarize(read_dataset(file)) == {"a.jpg": ("piñata|Hund", "", None)}
