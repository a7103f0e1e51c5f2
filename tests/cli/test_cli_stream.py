"""patchct stream as a process: output, signals, exit codes."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import time

import numpy as np
import pytest
from streams import event_name

from patchct_edge import images

MAIN = "from patchct_edge.cli.app import main; main()"
PATTERN = "test://pattern?fps=50&size=64x48"


@pytest.fixture
def start(tiny_bundle):
    """Start a stream of the fake engine; its stdout and stderr are pipes."""
    children = []

    def started(*words, model=tiny_bundle, **options):
        given = ["stream", *map(str, words), "--model", str(model), "--engine", "fake"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        children.append(subprocess.Popen([sys.executable, "-c", MAIN, *given], **pipes))
        return children[-1]

    yield started
    for child in children:
        child.kill()
        child.communicate()


def next_rows(child, count):
    return [json.loads(child.stdout.readline()) for _ in range(count)]


def test_rows_come_as_they_are_made_and_the_summary_on_stderr(start):
    child = start(PATTERN, "--frames", 10)
    out, err = child.communicate(timeout=20)
    rows = [json.loads(line) for line in out.splitlines()]
    assert child.returncode == 0
    assert event_name(rows[0]) == "camera connected"
    assert sum(row["type"] == "frame" for row in rows) == 10
    assert "10 tagged" in err
    assert "capture to tags" in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_within_a_second_with_all_written(start, tmp_path, number, code):
    child = start(PATTERN, "-o", tmp_path / "rows.jsonl")
    until = time.monotonic() + 20
    while not (tmp_path / "rows.jsonl").exists() or not (tmp_path / "rows.jsonl").stat().st_size:
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(0.5)
    child.send_signal(number)
    began = time.monotonic()
    _, err = child.communicate(timeout=10)
    assert time.monotonic() - began < 1
    assert child.returncode == code
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    tagged = sum(row["type"] == "frame" for row in rows)
    assert f"{tagged} tagged" in err


def test_hangup_reloads_thresholds_and_model_without_losing_the_stream(
    start, tmp_path, tiny_bundle, write_bundle
):
    model = tmp_path / "model.patchct"
    shutil.copytree(tiny_bundle, model)
    child = start(PATTERN, model=model)
    assert next_rows(child, 5)[-1]["frame"] <= 5
    shutil.rmtree(model)
    write_bundle(model, labels=("rot", "gruen", "blau"))
    child.send_signal(signal.SIGHUP)
    rows = next_rows(child, 100)
    labels = [row["label"] for row in rows if event_name(row) == "label on"]
    assert set(labels) & {"rot", "gruen", "blau"}
    assert not any(row["type"] == "camera" for row in rows)
    numbers = [row["frame"] for row in rows if row["type"] == "frame"]
    assert numbers == sorted(numbers)


def test_a_bad_model_on_hangup_changes_nothing(start, tmp_path, tiny_bundle):
    model = tmp_path / "model.patchct"
    shutil.copytree(tiny_bundle, model)
    child = start(PATTERN, model=model)
    next_rows(child, 5)
    (model / "manifest.json").write_text("nonsense")
    child.send_signal(signal.SIGHUP)
    assert all("error" not in row for row in next_rows(child, 100))
    child.terminate()
    assert "going on as before" in child.communicate(timeout=10)[1]


def test_a_terminal_that_is_closed_ends_it(start, tmp_path):
    ours, terminal = pty.openpty()
    rows = tmp_path / "rows.jsonl"
    child = start(
        PATTERN,
        "-o",
        rows,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    until = time.monotonic() + 20
    while not rows.exists() or not rows.stat().st_size:
        assert time.monotonic() < until
        time.sleep(0.05)
    os.close(ours)
    assert child.wait(10) == 0
    assert rows.read_text().endswith("}\n")


def test_a_reader_that_leaves_ends_it_quietly(start):
    child = start(PATTERN)
    next_rows(child, 3)
    child.stdout.close()
    assert child.wait(10) == 0
    assert "Traceback" not in child.stderr.read()


def test_without_a_stderr_it_goes_on(start):
    child = start(PATTERN, "--roi", "0,0,400,10")  # every frame fails, which is told
    child.stderr.close()
    rows = next_rows(child, 50)
    assert sum("error" in row for row in rows) > 40
    child.terminate()
    assert child.wait(10) == 0


def test_what_could_not_be_written_is_exit_code_1(run_cli, tiny_bundle, tmp_path):
    images.save(np.zeros((8, 8, 3), np.uint8), tmp_path / "a.png")
    words = ["stream", tmp_path, "--model", tiny_bundle, "--engine", "fake", "-o", "/dev/full"]
    found = run_cli(*words, code=1)
    assert "jsonl /dev/full: 3 failed" in found.stderr


def test_a_folder_is_tagged_to_its_end(run_cli, tiny_bundle, tmp_path):
    (tmp_path / "photos").mkdir()
    for n in range(3):
        images.save(np.full((8, 8, 3), (255, 0, 0), np.uint8), tmp_path / "photos" / f"{n}.png")
    found = run_cli(
        "stream",
        tmp_path / "photos",
        "--model",
        tiny_bundle,
        "--engine",
        "fake",
        "-o",
        tmp_path / "rows.jsonl",
        "--events-only",
        "--min-duration",
        0,
    )
    assert "3 captured, 3 tagged" in found.stderr
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [event_name(row) for row in rows] == [
        "camera connected",
        "label on",
        "camera ended",
        "label off",
    ]


def test_a_file_that_is_no_video_is_exit_code_1(start, tmp_path):
    pytest.importorskip("av")
    (tmp_path / "text.mp4").write_text("no video")
    child = start(tmp_path / "text.mp4")
    _, err = child.communicate(timeout=20)
    assert child.returncode == 1
    assert "cannot open" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.mp4"], "no such source"),
        (["htp://host/"], "did you mean 'http'"),
        ([PATTERN, "--roi", "1,2,3"], "such as 0.25,0,0.5,1"),
        ([PATTERN, "--roi", "0.5,0,0.6,1"], "beyond the frame"),
        ([PATTERN, "--max-fps", "-1"], "--max-fps: got -1.0, expected a number greater than 0"),
        ([PATTERN, "--webhook", "ftp://x"], "http://..."),
        ([PATTERN, "-o", "no/such/folder/x"], "no folder"),
        ([PATTERN, "--mqtt", "broker"], "mqtt://HOST/TOPIC"),
        ([], "nothing to stream: give SOURCE and --model, or --config"),
    ],
)
def test_a_mistake_is_told_with_exit_code_2(run_cli, tiny_bundle, words, said):
    found = run_cli("stream", *words, "--model", tiny_bundle, "--engine", "fake", code=2)
    assert said in found.stderr
    assert "Traceback" not in found.stderr
