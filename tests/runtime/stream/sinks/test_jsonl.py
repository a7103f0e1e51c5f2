"""JSON lines: rotation, full disks, files that already exist."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

from messages import frame_row

from patchct_edge.runtime.stream.settings import JSONLSettings
from patchct_edge.runtime.stream.sinks.jsonl import JSONLSink

SUPPORT_FOLDER = str(Path(__file__).parents[3] / "support")
WRITE_TO_LIMITED_STDOUT = """
import resource, signal, sys
from messages import frame_row
from patchct_edge.runtime.stream.settings import JSONLSettings
from patchct_edge.runtime.stream.sinks.jsonl import JSONLSink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sink = JSONLSink(JSONLSettings())
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
for number in range(50):
    if number == 49:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    try:
        sink.deliver(frame_row(number), None)
        print(number, file=sys.stderr)
    except OSError:
        continue
"""


def open_sink(path, **settings):
    return JSONLSink(JSONLSettings(path=str(path), **settings))


def read_frame_numbers(path):
    return [json.loads(line)["frame"] for line in path.read_text().splitlines()]


def test_files_are_rotated_and_the_oldest_is_deleted(tmp_path):
    path = tmp_path / "rows.jsonl"
    sink = open_sink(path, max_mb=0.001, keep_files=2)
    for number in range(40):
        sink.deliver(frame_row(number), None)
    sink.close()
    files = [tmp_path / f"rows.jsonl{suffix}" for suffix in (".2", ".1", "")]
    numbers = [number for file in files for number in read_frame_numbers(file)]
    assert numbers == list(range(numbers[0], 40))
    assert all(file.stat().st_size <= 1000 for file in files)
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_an_existing_file_is_continued(tmp_path):
    path = tmp_path / "rows.jsonl"
    for number in (1, 2):
        sink = open_sink(path)
        sink.deliver(frame_row(number), None)
        sink.close()
    assert read_frame_numbers(path) == [1, 2]


def test_an_incomplete_last_line_does_not_damage_the_next_one(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"frame": 0}\n{"fra')  # such as after a power cut
    sink = open_sink(path)
    sink.deliver(frame_row(1), None)
    sink.close()
    first, incomplete, last = path.read_text().splitlines()
    assert (json.loads(first)["frame"], incomplete, json.loads(last)["frame"]) == (0, '{"fra', 1)


def test_if_rotation_fails_the_file_keeps_growing_and_a_warning_is_logged(
    tmp_path, monkeypatch, caplog
):
    path = tmp_path / "rows.jsonl"
    older = [tmp_path / f"rows.jsonl.{number}" for number in (1, 2, 3)]
    for file in older:
        file.write_text(file.name)
    sink = open_sink(path, max_mb=0.0005)
    replace = os.replace

    def refuse_current_file(source, target):
        if source == path:
            raise PermissionError(errno.EACCES, "Permission denied")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse_current_file)
        for number in range(20):
            sink.deliver(frame_row(number), None)
    assert read_frame_numbers(path) == list(range(20))
    assert [file.read_text() for file in older] == [file.name for file in older]
    (message,) = caplog.messages
    assert "cannot be rotated and keeps growing" in message
    assert "Permission denied" in message
    sink.deliver(frame_row(20), None)
    sink.close()
    assert read_frame_numbers(path) == [20]


def test_a_full_disk_below_stdout_leaves_no_incomplete_line(tmp_path):
    """A failed line is not written later either. In a process whose files are limited in size."""
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as target:
        process = subprocess.run(
            [sys.executable, "-c", WRITE_TO_LIMITED_STDOUT],
            stdout=target,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": SUPPORT_FOLDER},
        )
    delivered = [int(word) for word in process.stderr.split()]
    assert read_frame_numbers(path) == delivered
    assert 0 < len(delivered) < 50
    assert delivered[-1] == 49


def test_a_full_disk_leaves_no_incomplete_line(tmp_path, monkeypatch):
    sink = open_sink(tmp_path / "rows.jsonl")
    write, free_bytes = os.write, [300]

    def write_to_full_disk(file, data):
        if free_bytes[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(file, data[: free_bytes[0]])
        free_bytes[0] -= written
        return written

    monkeypatch.setattr(os, "write", write_to_full_disk)
    failed = 0
    for number in range(6):
        free_bytes[0] = 10_000 if number == 5 else free_bytes[0]  # somebody made room
        try:
            sink.deliver(frame_row(number), None)
        except OSError:
            failed += 1
    sink.close()
    numbers = read_frame_numbers(tmp_path / "rows.jsonl")
    assert numbers[-1] == 5
    assert len(numbers) == 6 - failed
    assert failed >= 3
