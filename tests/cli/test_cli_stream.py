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
    """Start a stream with the fake engine; its stdout and stderr are pipes."""
    processes = []

    def start(*arguments, model=tiny_bundle, **options):
        command = ["stream", *map(str, arguments), "--model", str(model), "--engine", "fake"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        processes.append(subprocess.Popen([sys.executable, "-c", MAIN, *command], **pipes))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def read_rows(process, count):
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def read_rows_file(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_for_rows(path, seconds=20):
    deadline = time.monotonic() + seconds
    while not path.exists() or not path.stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_rows_go_to_stdout_and_the_summary_to_stderr(start):
    process = start(PATTERN, "--frames", 10)
    out, err = process.communicate(timeout=20)
    rows = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0
    assert event_name(rows[0]) == "camera connected"
    assert sum(row["type"] == "frame" for row in rows) == 10
    assert "10 tagged" in err
    assert "capture to tags" in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_within_a_second_with_every_row_written(start, tmp_path, number, code):
    path = tmp_path / "rows.jsonl"
    process = start(PATTERN, "-o", path)
    wait_for_rows(path)
    time.sleep(0.5)
    process.send_signal(number)
    signaled_at = time.monotonic()
    _, err = process.communicate(timeout=10)
    assert time.monotonic() - signaled_at < 1
    assert process.returncode == code
    tagged = sum(row["type"] == "frame" for row in read_rows_file(path))
    assert f"{tagged} tagged" in err


def test_hangup_reloads_thresholds_and_model_without_interrupting_the_stream(
    start, tmp_path, tiny_bundle, write_bundle
):
    model = tmp_path / "model.patchct"
    shutil.copytree(tiny_bundle, model)
    process = start(PATTERN, model=model)
    assert read_rows(process, 5)[-1]["frame"] <= 5
    shutil.rmtree(model)
    write_bundle(model, labels=("rot", "gruen", "blau"))
    process.send_signal(signal.SIGHUP)
    rows = read_rows(process, 100)
    labels = [row["label"] for row in rows if event_name(row) == "label on"]
    assert set(labels) & {"rot", "gruen", "blau"}
    assert not any(row["type"] == "camera" for row in rows)
    numbers = [row["frame"] for row in rows if row["type"] == "frame"]
    assert numbers == sorted(numbers)


def test_an_invalid_model_at_hangup_changes_nothing(start, tmp_path, tiny_bundle):
    model = tmp_path / "model.patchct"
    shutil.copytree(tiny_bundle, model)
    process = start(PATTERN, model=model)
    read_rows(process, 5)
    (model / "manifest.json").write_text("nonsense")
    process.send_signal(signal.SIGHUP)
    assert all("error" not in row for row in read_rows(process, 100))
    process.terminate()
    assert "not reloaded, continuing as before" in process.communicate(timeout=10)[1]


def test_closing_the_terminal_ends_it(start, tmp_path):
    controller, terminal = pty.openpty()
    path = tmp_path / "rows.jsonl"
    process = start(
        PATTERN,
        "-o",
        path,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    wait_for_rows(path)
    os.close(controller)
    assert process.wait(10) == 0
    assert path.read_text().endswith("}\n")


def test_it_ends_quietly_when_the_reader_of_stdout_leaves(start):
    process = start(PATTERN)
    read_rows(process, 3)
    process.stdout.close()
    assert process.wait(10) == 0
    assert "Traceback" not in process.stderr.read()


def test_it_runs_on_when_stderr_is_closed(start):
    process = start(PATTERN, "--roi", "0,0,400,10")  # every frame fails, which is logged
    process.stderr.close()
    rows = read_rows(process, 50)
    assert sum("error" in row for row in rows) > 40
    process.terminate()
    assert process.wait(10) == 0


def test_messages_are_json_lines_for_a_service(start):
    process = start(PATTERN, "--log-format", "json", "--roi", "0,0,400,10", "--frames", 1)
    read_rows(process, 5)
    process.terminate()
    _, err = process.communicate(timeout=10)
    records = [json.loads(line) for line in err.splitlines()]
    (failure,) = [record for record in records if "was not tagged" in record["message"]]
    assert failure["level"] == "warning"
    assert failure["logger"] == "patchct_edge.runtime.stream.camera_session"


def test_rows_that_cannot_be_written_are_exit_code_1(run_cli, tiny_bundle, tmp_path):
    images.save(np.zeros((8, 8, 3), np.uint8), tmp_path / "a.png")
    arguments = ["stream", tmp_path, "--model", tiny_bundle, "--engine", "fake", "-o", "/dev/full"]
    result = run_cli(*arguments, code=1)
    assert "jsonl /dev/full: 3 failed" in result.stderr


def test_a_folder_is_tagged_to_its_end(run_cli, tiny_bundle, tmp_path):
    (tmp_path / "photos").mkdir()
    for n in range(3):
        images.save(np.full((8, 8, 3), (255, 0, 0), np.uint8), tmp_path / "photos" / f"{n}.png")
    result = run_cli(
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
    assert "3 captured, 3 tagged" in result.stderr
    assert [event_name(row) for row in read_rows_file(tmp_path / "rows.jsonl")] == [
        "camera connected",
        "label on",
        "camera ended",
        "label off",
    ]


def test_a_file_that_is_not_a_video_is_exit_code_1(start, tmp_path):
    pytest.importorskip("av")
    (tmp_path / "text.mp4").write_text("not a video")
    process = start(tmp_path / "text.mp4")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "cannot open" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.mp4"], "no such source"),
        (["htp://host/"], "did you mean 'http'"),
        ([PATTERN, "--roi", "1,2,3"], "such as 0.25,0,0.5,1"),
        ([PATTERN, "--roi", "0.5,0,0.6,1"], "beyond the frame"),
        ([PATTERN, "--max-fps", "-1"], "--max-fps: got -1, expected more than 0"),
        ([PATTERN, "--webhook", "ftp://x"], "http://..."),
        ([PATTERN, "-o", "no/such/folder/x"], "no folder"),
        ([PATTERN, "--mqtt", "broker"], "mqtt://HOST/TOPIC"),
        ([], "stream needs SOURCE and --model, or --config"),
    ],
)
def test_a_mistake_is_reported_with_exit_code_2(run_cli, tiny_bundle, arguments, message):
    result = run_cli("stream", *arguments, "--model", tiny_bundle, "--engine", "fake", code=2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_all_mistakes_are_reported_at_once(run_cli, tiny_bundle):
    arguments = ["nowhere.mp4", "--max-fps", "-1", "--smoothing", "-2", "--mqtt", "broker"]
    result = run_cli("stream", *arguments, "--model", tiny_bundle, "--engine", "fake", code=2)
    for words in ("(4 errors)", "--max-fps", "--smoothing", "no such source", "mqtt://HOST/TOPIC"):
        assert words in result.stderr


def test_paths_that_are_not_utf8(start, tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    images.save(np.zeros((8, 8, 3), np.uint8), folder / "a.png")
    process = start(folder, "-o", folder / "rows.jsonl", stdout=subprocess.DEVNULL)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    (row,) = [row for row in read_rows_file(folder / "rows.jsonl") if row["type"] == "frame"]
    assert "tags" in row
