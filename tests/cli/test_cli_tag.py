"""patchct tag: inputs, row formats, errors, and a reader that closes the pipe."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import patchct_edge
from patchct_edge.bundle import Bundle

LABELS_BY_NAME = {"amber.png": ["red", "green"], "dark.png": [], "rose.jpg": ["red", "blue"]}


@pytest.fixture
def tag(run_cli, tiny_bundle):
    """Run `patchct tag` with the fake engine, whose scores follow the color channels."""
    return lambda *words, **options: run_cli(
        "tag", *words, "--model", tiny_bundle, "--engine", "fake", **options
    )


def parse_rows(text):
    return [json.loads(line) for line in text.splitlines()]


def labels_by_name(text):
    """Return the labels of each photo, by file name."""
    return {
        Path(row["path"]).name: [tag["label"] for tag in row["tags"]] for row in parse_rows(text)
    }


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["amber.png"], ["amber.png"]),
        (["rose.jpg", "amber.png"], ["rose.jpg", "amber.png"]),
        ([""], ["amber.png", "dark.png", "rose.jpg"]),
        (["*.png"], ["amber.png", "dark.png"]),
        (["**/r*"], ["rose.jpg"]),
    ],
    ids=["file", "files", "folder", "pattern", "recursive pattern"],
)
def test_inputs(tag, photos, inputs, expected):
    result = tag(*(photos / name for name in inputs))
    assert list(labels_by_name(result.stdout).items()) == [
        (name, LABELS_BY_NAME[name]) for name in expected
    ]
    assert result.stderr == ""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_a_list_on_stdin(tag, photos, end):
    names = ["rose.jpg", "dark.png"]
    result = tag("-", stdin="".join(f"{photos / name}{end}" for name in names))
    assert labels_by_name(result.stdout) == {name: LABELS_BY_NAME[name] for name in names}


def test_scores_come_from_the_engine(tag, photos):
    (row,) = parse_rows(tag(photos / "amber.png").stdout)
    assert row["path"] == str(photos / "amber.png")
    expected = 1 / (1 + np.exp(4 - 8 * np.array([250, 130]) / 255))
    assert [tag["score"] for tag in row["tags"]] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--threshold", 0.9], ["red"]),
        (["--threshold", 0], ["red", "green", "blue"]),
        (["--threshold", 1], []),
        (["--top-k", 1], ["red"]),
        (["--all-scores"], ["red", "green", "blue"]),
        (["--all-scores", "--top-k", 2], ["red", "green"]),
    ],
    ids=str,
)
def test_options_select_the_tags(tag, photos, options, expected):
    assert labels_by_name(tag(photos / "amber.png", *options).stdout) == {"amber.png": expected}


def test_the_header_names_version_model_and_engine(tag, photos, tiny_bundle):
    header, *rows = parse_rows(tag(photos, "--header").stdout)
    assert header["patchct"] == patchct_edge.__version__
    assert header["model"] == Bundle(tiny_bundle).manifest.fingerprint
    assert header["precision"] == "fp32"
    assert header["engine"]["engine"] == "fake"
    assert len(rows) == 3


def test_csv_rows(tag, photos):
    result = list(csv.DictReader(io.StringIO(tag(photos, "--format", "csv").stdout)))
    assert [row["tags"].split("|") if row["tags"] else [] for row in result] == list(
        LABELS_BY_NAME.values()
    )
    assert list(result[0]) == ["path", "tags", "scores", "error"]
    all_scores = tag(photos, "--format", "csv", "--all-scores").stdout
    (first, *_) = csv.DictReader(io.StringIO(all_scores))
    assert list(first) == ["path", "red", "green", "blue", "error"]
    assert float(first["red"]) > float(first["green"]) > float(first["blue"])


@pytest.mark.parametrize("flag", ["-o", "--output"])
def test_output_goes_to_a_file(tag, photos, tmp_path, flag):
    result = tag(photos, flag, tmp_path / "tags.jsonl")
    assert result.stdout == ""
    assert labels_by_name((tmp_path / "tags.jsonl").read_text()) == LABELS_BY_NAME


def test_a_file_that_cannot_be_read_has_an_error_row_and_the_run_goes_on(tag, photos, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    result = tag(tmp_path / "broken.jpg", tmp_path / "gone.png", photos / "dark.png", code=1)
    broken, missing, readable = parse_rows(result.stdout)
    assert broken["path"] == str(tmp_path / "broken.jpg")
    assert broken["error"]["type"] == "ImageError"
    assert "broken.jpg" in broken["error"]["message"]
    assert "no such file" in missing["error"]["message"]
    assert "tags" not in broken
    assert readable["tags"] == []
    assert "2 files could not be read" in result.stderr


def test_the_same_file_twice_has_two_rows(tag, photos):
    result = tag(photos / "rose.jpg", photos / "rose.jpg", photos)
    names = [Path(row["path"]).name for row in parse_rows(result.stdout)]
    assert names == ["rose.jpg", "rose.jpg", "amber.png", "dark.png", "rose.jpg"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_a_file_without_read_permission_has_an_error_row(tag, photos, tmp_path):
    locked = tmp_path / "locked.png"
    locked.write_bytes((photos / "amber.png").read_bytes())
    locked.chmod(0)
    bad, good = parse_rows(tag(locked, photos / "dark.png", code=1).stdout)
    assert "Permission denied" in bad["error"]["message"]
    assert good["tags"] == []


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_the_batch_size_does_not_change_the_rows(tag, photos, batch):
    assert tag(photos, "--batch", batch).stdout == tag(photos).stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["{photos}/*.gif"], ["no images found", "got:", "expected:", "fix:"]),
        (["{photos}", "-o", "{tmp}/no/tags.jsonl"], ["cannot write", "no folder", "mkdir -p"]),
        (["{photos}", "-o", "{tmp}"], ["cannot write", "directory"]),
        (["{photos}", "--header", "--format", "csv"], ["--header", "csv", "--format jsonl"]),
    ],
    ids=["no photo", "no folder", "a folder", "header with CSV"],
)
def test_user_errors(tag, photos, tmp_path, words, expected):
    result = tag(*(word.format(photos=photos, tmp=tmp_path) for word in words), code=2)
    assert [part for part in expected if part not in result.stderr] == []
    assert result.stdout == ""


def test_a_typo_keeps_the_rows_of_an_earlier_run(tag, photos, tmp_path):
    output = tmp_path / "tags.jsonl"
    tag(photos, "-o", output)
    result = tag(photos / "*.gif", "-o", output, code=2)
    assert "no images found" in result.stderr
    assert labels_by_name(output.read_text()) == LABELS_BY_NAME


@pytest.mark.parametrize(
    "words",
    ["q.png -o q.png", "a.jpg q.png -o ./q.png", "a.jpg -o q.png", ". -o q.png", "raw -o link"],
)
def test_a_photo_is_never_overwritten(tag, photos, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    data = (photos / "amber.png").read_bytes()
    for name in ("q.png", "a.jpg", "raw"):
        Path(name).write_bytes(data)
    Path("link").symlink_to("raw")
    result = tag(*words.split(), code=2)
    assert f"-o would overwrite {Path(words.split()[-1])}" in result.stderr
    assert [Path(name).read_bytes() for name in ("q.png", "a.jpg", "raw")] == [data] * 3


def test_no_file_of_a_bundle_is_overwritten(tag, photos, tiny_bundle, tmp_path):
    (tmp_path / "link").symlink_to(tiny_bundle)
    for folder in (tiny_bundle, tmp_path / "link"):
        stderr = tag(photos / "amber.png", "-o", folder / "manifest.json", code=2).stderr
        assert "a path inside a bundle" in stderr
    Bundle(tiny_bundle).verify()


def test_a_name_that_is_too_long_has_an_error_row(tag):
    (row,) = parse_rows(tag(f"{'x' * 300}.jpg", code=1).stdout)
    assert "too long" in row["error"]["message"]


def test_a_closed_stdout_is_reported(start_cli, photos, tiny_bundle):
    words = ("tag", photos, "--model", tiny_bundle, "--engine", "fake")
    process = start_cli(*words, stdout=None, preexec_fn=lambda: os.close(1))
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert stderr.startswith("error: cannot write standard output\n")
    assert "Traceback" not in stderr


def test_a_closed_stdin_is_reported(start_cli, tiny_bundle):
    words = ("tag", "-", "--model", tiny_bundle, "--engine", "fake")
    process = start_cli(*words, preexec_fn=lambda: os.close(0))
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert stderr.startswith("error: cannot read the list on standard input\n")
    assert "Traceback" not in stderr


def test_a_full_disk_behind_stdout_is_reported(start_cli, photos, tiny_bundle):
    with open("/dev/full", "w") as full:
        words = ("tag", photos, "--model", tiny_bundle, "--engine", "fake")
        process = start_cli(*words, stdout=full, env={**os.environ, "PYTHONUNBUFFERED": ""})
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert stderr.startswith("error: cannot write standard output: No space left on device\n")
    assert "Exception" not in stderr


@pytest.mark.parametrize(
    ("options", "code", "expected"),
    [
        (["--engine", "openvin"], 2, ["openvin", "'openvino'?"]),
        (["--precision", "int4"], 2, ["int4", "'int8'?"]),
        (["--precision", "int8"], 3, ["no engine can run", "no int8 graph"]),
    ],
    ids=str,
)
def test_an_engine_that_does_not_exist_or_fit(
    run_cli, tiny_bundle, photos, options, code, expected
):
    result = run_cli("tag", photos, "--model", tiny_bundle, *options, code=code)
    assert [part for part in expected if part not in result.stderr] == []
    assert result.stdout == ""


def test_a_reader_that_closes_the_pipe_ends_the_command_quietly(start_cli, photos, tiny_bundle):
    """Like `patchct tag - | head -1`, with more rows than a pipe holds."""
    process = start_cli("tag", "-", "--model", tiny_bundle, "--engine", "fake")
    process.stdin.write(f"{photos / 'amber.png'}\n" * 2000)
    process.stdin.close()
    assert labels_by_name(process.stdout.readline()) == {"amber.png": LABELS_BY_NAME["amber.png"]}
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", None])
def test_a_trained_bundle_finds_the_labels_it_learned(run_cli, exported_bundle, squares, precision):
    options = ["--precision", precision] if precision else []
    pattern = squares.parent / "val-*.png"
    result = run_cli("tag", pattern, "--model", exported_bundle, "--header", *options)
    header, *rows = parse_rows(result.stdout)
    assert header["precision"] == (precision or "int8")
    with squares.open(newline="") as file:
        truth = {
            row["image"]: set(filter(None, row["labels"].split("|")))
            for row in csv.DictReader(file)
        }
    correct = [
        {tag["label"] for tag in row["tags"]} == truth[Path(row["path"]).name] for row in rows
    ]
    assert len(correct) == 40
    assert sum(correct) >= 36


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("to_file", [True, False])
@pytest.mark.parametrize("seconds", [0.0, 0.013, 0.1])
def test_an_interrupt_leaves_whole_rows(
    start_cli, photos, tiny_bundle, tmp_path, number, to_file, seconds
):
    target = tmp_path / "tags.jsonl"
    words = ["tag", "-", "--model", tiny_bundle, "--engine", "fake"]
    process = start_cli(*words, *(["-o", target] if to_file else []))
    feeder = threading.Thread(target=_feed, args=(process, f"{photos / 'amber.png'}\n" * 200))
    feeder.start()
    first = "" if to_file else process.stdout.readline()
    while to_file and not (target.exists() and target.stat().st_size):
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(number)
    rest, stderr = process.stdout.read(), process.stderr.read()
    assert process.wait(60) == 130
    feeder.join()
    text = target.read_text() if to_file else first + rest
    assert text.endswith("\n")
    assert {row["path"] for row in parse_rows(text)} == {str(photos / "amber.png")}
    assert stderr == "interrupted; everything finished so far is kept\n"
    process.stdout.close()
    process.stderr.close()


def _feed(process, names):
    """Write names to the command until it ends."""
    with contextlib.suppress(OSError):
        while process.poll() is None:
            process.stdin.write(names)
            process.stdin.flush()
    with contextlib.suppress(OSError):
        process.stdin.close()
