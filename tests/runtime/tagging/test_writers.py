"""Rows of tags in JSONL and CSV: they can be read back, and only whole rows are written."""

from __future__ import annotations

import csv
import io
import json
import os
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


def write_jsonl(*rows: TagRow, header: dict[str, str] | None = None) -> bytes:
    target = io.BytesIO()
    with JSONLWriter(target, header) as writer:
        for row in rows:
            writer.write(row)
    return target.getvalue()


def write_csv(
    *rows: TagRow, labels: tuple[str, ...] = (), all_scores: bool = False
) -> list[list[str]]:
    target = io.BytesIO()
    with CSVWriter(target, labels, all_scores) as writer:
        for row in rows:
            writer.write(row)
    text = target.getvalue().decode(errors="surrogateescape")
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def test_jsonl_rows() -> None:
    assert write_jsonl(*ROWS, header={"patchct": "1"}).decode() == (
        '{"patchct": "1"}\n'
        '{"path": "a.jpg", "tags": [{"label": "dog", "score": 0.97},'
        ' {"label": "big cat", "score": 0.5}]}\n'
        '{"path": "b.jpg", "tags": []}\n'
        '{"path": "c.jpg", "error": {"type": "ImageError", "message": "no such file: c.jpg"}}\n'
    )
    assert write_jsonl() == b""


def test_csv_rows() -> None:
    assert write_csv(*ROWS) == [
        ["path", "tags", "scores", "error"],
        ["a.jpg", "dog|big cat", "0.97|0.5", ""],
        ["b.jpg", "", "", ""],
        ["c.jpg", "", "", "ImageError: no such file: c.jpg"],
    ]
    assert write_csv() == [["path", "tags", "scores", "error"]]


def test_csv_with_all_scores_has_a_column_for_each_label() -> None:
    assert write_csv(ROWS[0], ROWS[2], labels=("big cat", "dog"), all_scores=True) == [
        ["path", "big cat", "dog", "error"],
        ["a.jpg", "0.5", "0.97", ""],
        ["c.jpg", "", "", "ImageError: no such file: c.jpg"],
    ]


@given(st.lists(ANY_ROW, max_size=4))
def test_jsonl_can_be_read_back(rows: list[TagRow]) -> None:
    data = write_jsonl(*rows)
    lines = data.decode("utf-8").split("\n")
    assert lines.pop() == ""
    fields = [json.loads(line) for line in lines]
    assert fields == [row.to_json() for row in rows]
    for read, row in zip(fields, rows, strict=True):
        assert os.fsencode(read["path"]) == os.fsencode(row.path)


@given(st.lists(ANY_ROW, max_size=4))
def test_csv_can_be_read_back(rows: list[TagRow]) -> None:
    read = write_csv(*rows)[1:]
    for (path, tags, scores, error), row in zip(read, rows, strict=True):
        assert os.fsencode(path) == os.fsencode(row.path)
        labels, numbers = tags.split("|"), scores.split("|")
        written = [(n, float(s)) for n, s in zip(labels, numbers, strict=True)] if tags else []
        assert written == row.round_scores()
        assert error == ": ".join(row.error or ())


def test_only_bytes_outside_utf8_are_escaped() -> None:
    row = TagRow(os.fsdecode("träne 🐕\\".encode() + b"\xff.jpg"), [Tag("Hündin", 1.0)])
    line = write_jsonl(row)
    assert line.decode("utf-8").startswith('{"path": "träne 🐕\\\\\\udcff.jpg"')
    assert "Hündin" in line.decode()


@given(st.floats(0, 1))
def test_a_rounded_score_stays_within_0_and_1(score: float) -> None:
    ((_, rounded),) = TagRow("a", [Tag("dog", score)]).round_scores()
    assert 0 <= rounded <= 1
    assert abs(rounded - score) <= 0.5001e-4


def test_a_score_that_is_nan_is_never_written() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_jsonl(TagRow("a", [Tag("dog", float("nan"))]))


@pytest.mark.parametrize("fields", [{}, {"tags": [DOG], "error": ("ImageError", "broken")}])
def test_a_row_has_either_tags_or_an_error(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="either"):
        TagRow("a.jpg", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_a_file_holds_every_row_as_soon_as_it_is_written(tmp_path: Path, format: str) -> None:
    file = tmp_path / "tags"
    file.write_text("an earlier text, longer than the new rows" * 9)
    expected = io.BytesIO()
    expected_writer = JSONLWriter(expected) if format == "jsonl" else CSVWriter(expected)
    with open_writer(file, format) as writer:  # type: ignore[arg-type]
        assert file.read_bytes() == expected.getvalue()
        for row in ROWS:
            writer.write(row)
            expected_writer.write(row)
            assert file.read_bytes() == expected.getvalue()
    writer.close()


def test_open_writer_passes_header_and_labels_on(tmp_path: Path) -> None:
    open_writer(tmp_path / "a", "jsonl", header={"patchct": "1"}).close()
    open_writer(tmp_path / "b", "csv", labels=["dog", "cat"], all_scores=True).close()
    assert (tmp_path / "a").read_bytes() == b'{"patchct": "1"}\n'
    assert (tmp_path / "b").read_bytes() == b"path,dog,cat,error\r\n"


def test_standard_output_is_left_open(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with open_writer(None, "jsonl") as writer:
        writer.write(ROWS[1])
        assert capsysbinary.readouterr().out == b'{"path": "b.jpg", "tags": []}\n'
    assert not sys.stdout.buffer.closed


def test_a_closed_standard_output_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)  # Python sets this for `>&-`
    with pytest.raises(UserError, match=r"standard output(?s:.*)closed(?s:.*)-o"):
        open_writer(None, "jsonl")


@pytest.mark.parametrize(
    ("name", "message"),
    [("no folder/x/tags", "mkdir -p '.*no folder/x'"), (".", "directory"), ("file/tags", "a dir")],
)
def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"cannot write (?s:.*){message}"):
        open_writer(tmp_path / name, "jsonl")


@contextmanager
def limit_file_size(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes: as on a full disk, the last write is partial."""
    resource = pytest.importorskip("resource")  # not on Windows
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_whole_rows_and_reports_their_number(tmp_path: Path) -> None:
    file = tmp_path / "tags.jsonl"
    complete = write_jsonl(ROWS[0], ROWS[1], header={"patchct": "1"})
    with open_writer(file, "jsonl", header={"patchct": "1"}) as writer:
        writer.write(ROWS[0])
        writer.write(ROWS[1])
        with limit_file_size(len(complete) + 10), pytest.raises(UserError) as caught:
            writer.write(ROWS[2])
    assert file.read_bytes() == complete
    assert str(file) in str(caught.value)
    assert "2 complete rows written" in str(caught.value)
    writer.close()


def test_a_disk_that_is_full_from_the_start() -> None:
    with pytest.raises(UserError, match=r"/dev/full: No space left(?s:.*)0 complete rows"):
        open_writer(Path("/dev/full"), "csv")


class PartialTarget(io.BytesIO):
    """Takes at most seven bytes per write."""

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        return super().write(data[:7])


def test_a_partial_write_is_continued() -> None:
    target = PartialTarget()
    JSONLWriter(target).write(ROWS[0])
    assert target.getvalue() == write_jsonl(ROWS[0])


def test_a_reader_that_is_gone_raises_broken_pipe_error() -> None:
    reader, write_end = os.pipe()
    with open(write_end, "wb", buffering=0) as target:
        writer = JSONLWriter(target)
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            writer.write(ROWS[0])
