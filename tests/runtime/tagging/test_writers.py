"""Rows of tags in JSONL and CSV: what is written can be read back, and lines are whole."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchct_edge.bundle import Tag
from patchct_edge.errors import UserError
from patchct_edge.runtime.tagging.writers import CSVWriter, JSONLWriter, TagRow, open_writer

DOG, CAT = Tag("dog", 0.97004), Tag("big cat", 0.5)
ROWS = [
    TagRow("a.jpg", [DOG, CAT]),
    TagRow("b.jpg", []),
    TagRow("c.jpg", error=("ImageError", "no such file: c.jpg")),
]

NAME = st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name).map(os.fsdecode)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0|"), min_size=1)
TAGS = st.lists(st.builds(Tag, TEXT, st.floats(0, 1)), max_size=4, unique_by=lambda tag: tag.label)
ANY_ROW = st.one_of(
    st.builds(TagRow, NAME, TAGS),
    st.builds(lambda path, *error: TagRow(path, error=error), NAME, TEXT, TEXT),
)


def jsonl(*rows: TagRow, header: dict[str, str] | None = None) -> bytes:
    target = io.BytesIO()
    with JSONLWriter(target, header) as sink:
        for row in rows:
            sink.write(row)
    return target.getvalue()


def table(
    *rows: TagRow, labels: tuple[str, ...] = (), every_score: bool = False
) -> list[list[str]]:
    target = io.BytesIO()
    with CSVWriter(target, labels, every_score) as sink:
        for row in rows:
            sink.write(row)
    text = target.getvalue().decode(errors="surrogateescape")
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def test_jsonl() -> None:
    assert jsonl(*ROWS, header={"patchct": "1"}).decode() == (
        '{"patchct": "1"}\n'
        '{"path": "a.jpg", "tags": [{"label": "dog", "score": 0.97},'
        ' {"label": "big cat", "score": 0.5}]}\n'
        '{"path": "b.jpg", "tags": []}\n'
        '{"path": "c.jpg", "error": {"type": "ImageError", "message": "no such file: c.jpg"}}\n'
    )
    assert jsonl() == b""


def test_csv() -> None:
    assert table(*ROWS) == [
        ["path", "tags", "scores", "error"],
        ["a.jpg", "dog|big cat", "0.97|0.5", ""],
        ["b.jpg", "", "", ""],
        ["c.jpg", "", "", "ImageError: no such file: c.jpg"],
    ]
    assert table() == [["path", "tags", "scores", "error"]]


def test_csv_of_every_score_has_a_column_for_each_label() -> None:
    assert table(ROWS[0], ROWS[2], labels=("big cat", "dog"), every_score=True) == [
        ["path", "big cat", "dog", "error"],
        ["a.jpg", "0.5", "0.97", ""],
        ["c.jpg", "", "", "ImageError: no such file: c.jpg"],
    ]


@given(st.lists(ANY_ROW, max_size=4))
def test_jsonl_read_back_is_what_was_written(rows: list[TagRow]) -> None:
    data = jsonl(*rows)
    lines = data.decode("utf-8").split("\n")
    assert lines.pop() == ""
    fields = [json.loads(line) for line in lines]
    assert fields == [row.to_json() for row in rows]
    for read, row in zip(fields, rows, strict=True):
        assert os.fsencode(read["path"]) == os.fsencode(row.path)


@given(st.lists(ANY_ROW, max_size=4))
def test_csv_read_back_is_what_was_written(rows: list[TagRow]) -> None:
    read = table(*rows)[1:]
    for (path, tags, scores, error), row in zip(read, rows, strict=True):
        assert os.fsencode(path) == os.fsencode(row.path)
        labels, numbers = tags.split("|"), scores.split("|")
        written = [(n, float(s)) for n, s in zip(labels, numbers, strict=True)] if tags else []
        assert written == row.rounded()
        assert error == ": ".join(row.error or ())


def test_only_what_is_not_utf8_is_escaped() -> None:
    row = TagRow(os.fsdecode("träne 🐕\\".encode() + b"\xff.jpg"), [Tag("Hündin", 1.0)])
    line = jsonl(row)
    assert line.decode("utf-8").startswith('{"path": "träne 🐕\\\\\\udcff.jpg"')
    assert "Hündin" in line.decode()


@given(st.floats(0, 1))
def test_a_rounded_score_stays_within_0_and_1(score: float) -> None:
    ((_, rounded),) = TagRow("a", [Tag("dog", score)]).rounded()
    assert 0 <= rounded <= 1
    assert abs(rounded - score) <= 0.5001e-4


def test_a_score_that_is_no_number_is_never_written() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        jsonl(TagRow("a", [Tag("dog", float("nan"))]))


@pytest.mark.parametrize("fields", [{}, {"tags": [DOG], "error": ("ImageError", "broken")}])
def test_a_row_has_either_tags_or_an_error(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="either"):
        TagRow("a.jpg", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_a_file_holds_every_row_as_soon_as_it_is_written(tmp_path: Path, format: str) -> None:
    file = tmp_path / "tags"
    file.write_text("what was here before, longer than what is written now" * 9)
    expected = io.BytesIO()
    expected_sink = JSONLWriter(expected) if format == "jsonl" else CSVWriter(expected)
    with open_writer(file, format) as sink:  # type: ignore[arg-type]
        assert file.read_bytes() == expected.getvalue()
        for row in ROWS:
            sink.write(row)
            expected_sink.write(row)
            assert file.read_bytes() == expected.getvalue()
    sink.close()


def test_open_sink_hands_on_what_shapes_the_rows(tmp_path: Path) -> None:
    open_writer(tmp_path / "a", "jsonl", header={"patchct": "1"}).close()
    open_writer(tmp_path / "b", "csv", labels=["dog", "cat"], every_score=True).close()
    assert (tmp_path / "a").read_bytes() == b'{"patchct": "1"}\n'
    assert (tmp_path / "b").read_bytes() == b"path,dog,cat,error\r\n"


def test_standard_output_is_left_open(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with open_writer(None, "jsonl") as sink:
        sink.write(ROWS[1])
        assert capsysbinary.readouterr().out == b'{"path": "b.jpg", "tags": []}\n'
    assert not sys.stdout.buffer.closed


def test_standard_output_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)  # what Python makes of `>&-`
    with pytest.raises(UserError, match=r"standard output(?s:.*)closed(?s:.*)-o"):
        open_writer(None, "jsonl")


@pytest.mark.parametrize(
    ("name", "message"),
    [("no folder/x/tags", "mkdir -p '.*no folder/x'"), (".", "directory"), ("file/tags", "a dir")],
)
def test_a_file_that_cannot_be_opened(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"cannot write (?s:.*){message}"):
        open_writer(tmp_path / name, "jsonl")


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes: like a full disk, the last write is taken in part."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_whole_rows_and_says_how_many(tmp_path: Path) -> None:
    file = tmp_path / "tags.jsonl"
    whole = jsonl(ROWS[0], ROWS[1], header={"patchct": "1"})
    with open_writer(file, "jsonl", header={"patchct": "1"}) as sink:
        sink.write(ROWS[0])
        sink.write(ROWS[1])
        with full_at(len(whole) + 10), pytest.raises(UserError) as caught:
            sink.write(ROWS[2])
    assert file.read_bytes() == whole
    assert str(file) in str(caught.value)
    assert "2 rows written whole" in str(caught.value)
    sink.close()


def test_a_disk_that_is_full_from_the_start() -> None:
    with pytest.raises(UserError, match=r"/dev/full: No space left(?s:.*)0 rows"):
        open_writer(Path("/dev/full"), "csv")


class Part(io.BytesIO):
    """Takes at most seven bytes at once."""

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        return super().write(data[:7])


def test_a_target_that_takes_a_part_gets_the_rest() -> None:
    target = Part()
    JSONLWriter(target).write(ROWS[0])
    assert target.getvalue() == jsonl(ROWS[0])


def test_a_reader_that_has_gone_is_the_callers_business() -> None:
    reader, writer = os.pipe()
    with open(writer, "wb", buffering=0) as target:
        sink = JSONLWriter(target)
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            sink.write(ROWS[0])
