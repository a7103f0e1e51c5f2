from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchct_edge.datasets import ObjectBox, read_boxes
from patchct_edge.errors import UserError

Writer = Callable[..., Path]
HEADER = "image,label,xmin,ymin,xmax,ymax"

CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), max_size=20)
EDGES = st.tuples(*[st.floats(0, 1)] * 2).filter(lambda pair: pair[0] != pair[1]).map(sorted)
ROW = st.tuples(CELL, CELL.map(str.strip).filter(bool), EDGES, EDGES, st.booleans())


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(ROW, min_size=1, max_size=5),
    separator=st.sampled_from(",;\t"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    data=st.data(),
)
def test_boxes_written_by_csv_are_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, list[float], list[float], bool]],
    separator: str,
    quoting: int,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("boxes").resolve()
    columns = [*HEADER.split(","), "difficult"]
    order = data.draw(st.permutations(columns))
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, order, delimiter=separator, quoting=quoting)  # type: ignore[arg-type]
    writer.writeheader()
    expected: dict[Path, list[ObjectBox]] = {}
    for name, label, (xmin, xmax), (ymin, ymax), difficult in rows:
        image = f"p{name}.jpg"
        cells = (image, label, xmin, ymin, xmax, ymax, int(difficult))
        writer.writerow(dict(zip(columns, cells, strict=True)))
        box = ObjectBox(label, xmin, ymin, xmax, ymax, difficult)
        expected.setdefault(folder / image, []).append(box)
    (folder / "boxes.csv").write_bytes(stream.getvalue().encode())
    assert read_boxes(folder / "boxes.csv", [label for _, label, *_ in rows]) == expected


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\na.jpg,dog,0,0.25,.5,1\n",
        "image;label;xmin;ymin;xmax;ymax\r\na.jpg;dog;0;0.25;0.5;1\r\n",
        f"sep=,\r\n{HEADER}\r\na.jpg,dog,0,0.25,0.5,1\r\n",
        f"\ufeff{HEADER},difficult\n\na.jpg, dog ,0, 2.5e-1,0.5,1.0,\n",
        f"{HEADER},difficult\n../set/a.jpg,dog,0,0.25,0.5,1,0",
    ],
    ids=["comma", "semicolon", "sep", "spaces", "a way round"],
)
def test_dialects(tmp_path: Path, text: str) -> None:
    file = tmp_path / "set" / "boxes.csv"
    file.parent.mkdir()
    file.write_text(text, encoding="utf-8", newline="")
    expected = {file.parent.resolve() / "a.jpg": [ObjectBox("dog", 0, 0.25, 0.5, 1)]}
    assert read_boxes(file, ["cat", "dog"]) == expected


def test_every_fault_is_listed_with_its_row(
    write_csv: Writer, collect_faults: Callable[..., Any]
) -> None:
    rows = {
        "a.jpg,dog,0,0,1": "5 cells",
        "a.jpg,dog,0,0,1,1,2": "difficult is '2'",
        "a.jpg,,0,0,1,1,": "no label",
        " ,dog,0,0,1,1,": "no image",
        "a.jpg,dog,0,zero,1,1,": "ymin is 'zero', expected a number",
        "a.jpg,dog,0,0,120,80,": "fractions",
        "a.jpg,dog,-0.1,0,1,1,": "fractions",
        "a.jpg,dog,0.5,0,0.5,1,": "min < max",
        "a.jpg,dog,0,0.6,1,0.4,": "min < max",
        "a.jpg,dog,nan,0,1,1,": "expected fractions",
        "a.jpg,dog,0,0,inf,1,": "expected fractions",
        "a\0.jpg,dog,0,0,1,1,": "null",
        'a.jpg,"dog"s,0,0,1,1,': "not CSV",
    }
    text = "\n".join([f"{HEADER},difficult", *rows, "a.jpg,dog,0,0,1,1,1", ""])
    message_by_row = dict(collect_faults(lambda: read_boxes(write_csv(text), ["dog"])))
    assert list(message_by_row) == list(range(2, 2 + len(rows)))
    for message, expected in zip(message_by_row.values(), rows.values(), strict=True):
        assert re.search(expected, message)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("image,label,xmin,ymin,xmax", "no column 'ymax'"),
        ("", "no column 'image'"),
        (f"{HEADER},dificult", "unknown column 'dificult': did you mean 'difficult'?"),
        (f"{HEADER},xmin", "column 'xmin' occurs 2 times"),
    ],
)
def test_a_fault_of_the_header(
    write_csv: Writer, collect_faults: Callable[..., Any], header: str, message: str
) -> None:
    assert (1, message) in collect_faults(lambda: read_boxes(write_csv(header + "\n"), ["dog"]))


def test_a_missing_file_is_reported(tmp_path: Path, collect_faults: Callable[..., Any]) -> None:
    [(row, message)] = collect_faults(lambda: read_boxes(tmp_path / "gone.csv", ["dog"]))
    assert row is None
    assert "No such file" in message


@pytest.mark.parametrize(("rows", "got"), [("a.jpg,fox,0,0,1,1\n", "fox"), ("", "no box at all")])
def test_boxes_of_other_labels_are_refused(write_csv: Writer, rows: str, got: str) -> None:
    with pytest.raises(UserError, match=f"(?s)no box has a label.*{got}.*cat, dog"):
        read_boxes(write_csv(f"{HEADER}\n{rows}"), ["cat", "dog"])
