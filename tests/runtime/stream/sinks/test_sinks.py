"""The bounded queue before an outlet, and the outlets that write files or call a server."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from streams import closed

from patchct_edge import images
from patchct_edge.bundle import Tag
from patchct_edge.runtime.stream.events import FrameRow, LabelEvent
from patchct_edge.runtime.stream.settings import (
    JSONLSettings,
    SnapshotsSettings,
    VideoSettings,
    WebhookSettings,
)
from patchct_edge.runtime.stream.sinks.base import Sink, SinkWorker
from patchct_edge.runtime.stream.sinks.jsonl import JSONLSink
from patchct_edge.runtime.stream.sinks.snapshots import SnapshotsSink
from patchct_edge.runtime.stream.sinks.video import VideoSink
from patchct_edge.runtime.stream.sinks.webhook import WebhookSink

PICTURE = np.full((48, 64, 3), 90, np.uint8)


TEST_FOLDERS = os.pathsep.join(
    str(Path(__file__).parents[depth] / name) for depth, name in ((0, ""), (3, "support"))
)
FULL = """
import resource, signal, sys
from test_sinks import JSONLSettings, JSONLSink, row
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
outlet = JSONLSink(JSONLSettings())
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
for number in range(50):
    if number == 49:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    try:
        outlet.deliver(row(number), None)
        print(number, file=sys.stderr)
    except OSError:
        continue
"""


def row(number, camera="door", position=0.0):
    return FrameRow(camera, number, 1e9 + number, position, 0.01, [Tag("dog", 0.9)])


def event(number=0, label="dog", camera="door", on=True):
    return LabelEvent(camera, label, on, 0.9, 1e9 + number, 1e9)


class Gate(Sink):
    """Delivers while it is open; raises what `error` holds."""

    name, capacity = "gate", 5

    def __init__(self):
        super().__init__()
        self.open_gate, self.error, self.taken = threading.Event(), None, []

    def wants(self, message):
        return True

    def deliver(self, message, rgb):
        self.open_gate.wait(5)
        if self.error is not None:
            raise self.error
        self.taken.append(message.frame)


def test_a_slow_outlet_loses_the_oldest_and_nobody_waits():
    gate = Gate()
    courier = SinkWorker(gate, print)
    began = time.monotonic()
    for number in range(100):
        courier.put(row(number), None)
    assert time.monotonic() - began < 0.5
    gate.open_gate.set()
    counts = closed(courier)
    assert gate.taken[-5:] == [95, 96, 97, 98, 99]
    assert counts.delivered + counts.dropped == 100
    assert counts.lost == 0


def test_what_is_left_at_the_end_is_counted():
    gate = Gate()
    courier = SinkWorker(gate, print)
    for number in range(4):
        courier.put(row(number), None)
    counts = closed(courier, 0.2)
    gate.open_gate.set()
    assert (counts.delivered, counts.lost) == (0, 4)


def test_trouble_is_told_once_and_its_end_as_well():
    gate, notes = Gate(), []
    gate.open_gate.set()
    gate.capacity = 100
    courier = SinkWorker(gate, notes.append, calm=0.2)
    for number in range(20):
        refused = number < 10 and number != 5  # one in between goes through
        gate.error = OSError("no route to http://me:secret@host/") if refused else None
        time.sleep(0.3 if number == 19 else 0)
        courier.put(row(number), None)
        while courier.counts.delivered + courier.counts.failed <= number:
            time.sleep(0.001)
    assert closed(courier).failed == 9
    assert notes == ["gate fails: no route to http://me:***@host/", "gate works again; 9 failed"]


def lines_of(path):
    return [json.loads(line)["frame"] for line in path.read_text().splitlines()]


def test_files_rotate_and_the_oldest_goes(tmp_path):
    path = tmp_path / "rows.jsonl"
    outlet = JSONLSink(JSONLSettings(path=str(path), max_mb=0.001, keep_files=2))
    for number in range(40):
        outlet.deliver(row(number), None)
    outlet.close()
    files = [tmp_path / f"rows.jsonl{suffix}" for suffix in (".2", ".1", "")]
    kept = [number for each in files for number in lines_of(each)]
    assert kept == list(range(kept[0], 40))
    assert all(each.stat().st_size <= 1000 for each in files)
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_a_file_is_continued(tmp_path):
    path = tmp_path / "rows.jsonl"
    for number in (1, 2):
        outlet = JSONLSink(JSONLSettings(path=str(path)))
        outlet.deliver(row(number), None)
        outlet.close()
    assert lines_of(path) == [1, 2]


def test_a_line_that_a_power_cut_tore_takes_no_other_with_it(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"frame": 0}\n{"fra')
    outlet = JSONLSink(JSONLSettings(path=str(path)))
    outlet.deliver(row(1), None)
    outlet.close()
    first, torn, last = path.read_text().splitlines()
    assert (json.loads(first)["frame"], torn, json.loads(last)["frame"]) == (0, '{"fra', 1)


def test_a_file_that_cannot_be_rotated_goes_on(tmp_path, monkeypatch):
    path, said = tmp_path / "rows.jsonl", []
    older = [tmp_path / f"rows.jsonl.{n}" for n in (1, 2, 3)]
    for each in older:
        each.write_text(each.name)
    outlet = JSONLSink(JSONLSettings(path=str(path), max_mb=0.0005))
    outlet.say = said.append

    replace = os.replace

    def refuse(source, target):  # as where it is mounted
        if source == path:
            raise PermissionError(errno.EACCES, "Permission denied")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        for number in range(20):
            outlet.deliver(row(number), None)
    assert lines_of(path) == list(range(20))
    assert [each.read_text() for each in older] == [each.name for each in older]
    assert len(said) == 1
    assert "Permission denied" in said[0]
    outlet.deliver(row(20), None)
    outlet.close()
    assert lines_of(path) == [20]


def test_a_full_disk_under_stdout_leaves_no_torn_line(tmp_path):
    """What failed is not written later either; in a process of its own, whose files are small."""
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as target:
        found = subprocess.run(
            [sys.executable, "-c", FULL],
            stdout=target,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": TEST_FOLDERS},
        )
    delivered = [int(word) for word in found.stderr.split()]
    assert lines_of(path) == delivered
    assert 0 < len(delivered) < 50
    assert delivered[-1] == 49


def test_a_full_disk_leaves_no_torn_line(tmp_path, monkeypatch):
    outlet = JSONLSink(JSONLSettings(path=str(tmp_path / "rows.jsonl")))
    write, room = os.write, [300]

    def full(file, data):
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = write(file, data[: room[0]])
        room[0] -= done
        return done

    monkeypatch.setattr(os, "write", full)
    failed = 0
    for number in range(6):
        room[0] = 10_000 if number == 5 else room[0]  # somebody made room
        try:
            outlet.deliver(row(number), None)
        except OSError:
            failed += 1
    outlet.close()
    found = lines_of(tmp_path / "rows.jsonl")
    assert found[-1] == 5
    assert len(found) == 6 - failed
    assert failed >= 3


class Hook(BaseHTTPRequestHandler):
    """Answers with the server's codes (0: nonsense), then 200; keeps what it was sent."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        code = self.server.codes.pop(0) if self.server.codes else 200
        if code == 200:
            self.server.bodies.append(json.loads(body))
        self.server.asked.append((code, self.headers.get("Authorization")))
        if code == 0:
            self.wfile.write(b"nonsense\r\n")
            return
        self.send_response(code)
        if code == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *words):
        return


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as found:
        found.codes, found.bodies, found.asked = [], [], []
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_where_a_source_ends_what_waits_is_delivered(stream, server):
    server.codes = [503]  # its second try comes after the 0.4 s that a signal leaves
    outlet = WebhookSettings(url=f"http://127.0.0.1:{server.server_port}/")
    summary = stream("test://pattern?fps=50&size=64x48", frames=20, sinks=[outlet]).join()
    (counts,) = [found for name, found in summary.sinks.items() if "webhook" in name]
    assert counts.delivered == len(server.bodies) >= 3
    assert summary.complete


def hook(server, user=""):
    return WebhookSink(WebhookSettings(url=f"http://{user}127.0.0.1:{server.server_port}/events"))


def test_events_are_posted_in_order_and_tried_again(server):
    server.codes = [503, 429, 0]
    courier = SinkWorker(hook(server), print)
    for number in range(5):
        courier.put(event(number), None)
    counts = closed(courier, 10)
    assert [code for code, _ in server.asked] == [503, 429, 0, *[200] * 5]
    assert [body["time"] for body in server.bodies] == sorted(b["time"] for b in server.bodies)
    assert (counts.delivered, counts.failed) == (5, 0)


@pytest.mark.parametrize("code", [404, 302])  # followed, the latter would lose the event
def test_what_a_server_refuses_is_given_up_at_once(server, code):
    server.codes = [code]
    courier = SinkWorker(hook(server), print)
    courier.put(event(0), None)
    courier.put(event(1), None)
    counts = closed(courier, 5)
    assert (counts.delivered, counts.failed) == (1, 1)


def test_name_and_password_of_a_url_are_sent_and_never_told(server):
    outlet = hook(server, "me:se%40cret@")
    assert outlet.name == f"webhook http://127.0.0.1:{server.server_port}"
    outlet.deliver(event(), None)
    assert server.asked == [(200, "Basic bWU6c2VAY3JldA==")]  # me:se@cret


def test_a_server_that_is_away_is_given_up_at_the_end():
    courier = SinkWorker(WebhookSink(WebhookSettings(url="http://127.0.0.1:9/")), print)
    for number in range(3):
        courier.put(event(number), None)
    began = time.monotonic()
    counts = closed(courier, 0.5)
    assert time.monotonic() - began < 1
    assert counts.failed + counts.lost == 3


def test_snapshots_have_safe_names_and_the_oldest_go(tmp_path):
    outlet = SnapshotsSink(SnapshotsSettings(folder=str(tmp_path / "shots"), keep_files=3))
    assert outlet.wants(event())
    assert not outlet.wants(event(on=False))
    for number in range(5):
        outlet.deliver(event(number, "../a b", "c/d"), PICTURE)
    outlet.close()
    found = sorted((tmp_path / "shots").iterdir())
    assert len(found) == 3
    assert [path.name[:15] for path in found] == [f"20010909T01464{n}" for n in (2, 3, 4)]
    assert images.decode(found[0]).shape == PICTURE.shape
    assert sorted(tmp_path.iterdir()) == [tmp_path / "shots"]


FULL_VIDEO = """
import resource, signal, sys
from test_sinks import PICTURE, VideoSettings, VideoSink, row
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
outlet = VideoSink(VideoSettings(path=sys.argv[1], fps=10), "door")
for number in range(3):
    try:
        outlet.deliver(row(number, position=number / 10), PICTURE)
    except OSError:
        print("refused")
"""


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_disk_that_is_full_from_the_start_refuses_a_video(tmp_path, suffix):
    pytest.importorskip("av")
    found = subprocess.run(
        [sys.executable, "-c", FULL_VIDEO, str(tmp_path / f"out{suffix}")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": TEST_FOLDERS},
    )
    assert found.stdout.split() == ["refused"] * 3


def test_only_its_own_snapshots_are_deleted(tmp_path):
    holiday = [tmp_path / f"{2001 + n}-beach.jpg" for n in range(5)]
    for each in holiday:
        each.write_bytes(b"dear")
    for number in range(4):  # each a process of its own
        outlet = SnapshotsSink(SnapshotsSettings(folder=str(tmp_path), keep_files=2))
        outlet.deliver(event(number, label="犬" * 150), PICTURE)
        outlet.close()
    assert all(each.exists() for each in holiday)
    assert len(list(tmp_path.iterdir())) == 5 + 2


def test_a_video_can_be_read_back_with_its_captions(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "out.mp4"
    outlet = VideoSink(VideoSettings(path=str(path), fps=10), "door")
    assert not outlet.wants(row(1, "yard"))
    for number in range(20):
        larger = np.full((96, 128, 3), 90, np.uint8)  # the camera changes its size
        outlet.deliver(row(number, position=number / 10), larger if number > 10 else PICTURE)
    outlet.close()
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 20
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    assert frames[5][:20].max() > 200  # white letters on the grey picture
    assert abs(int(frames[5][40:].mean()) - 90) < 12


def test_a_video_that_is_there_is_kept(tmp_path):
    pytest.importorskip("av")
    notes = []
    for number in range(3):
        courier = SinkWorker(
            VideoSink(VideoSettings(path=str(tmp_path / "out.mp4")), "door"), notes.append
        )
        courier.put(row(number), PICTURE)
        closed(courier)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out-1.mp4", "out-2.mp4", "out.mp4"]
    assert notes == [
        f"video {tmp_path / name}: {tmp_path / 'out.mp4'} is there already"
        for name in ("out-1.mp4", "out-2.mp4")
    ]


WRITER = """
import os, sys
from pathlib import Path
import numpy as np
from patchct_edge.runtime.stream.sources.video import VideoWriter
writer = VideoWriter(Path(sys.argv[1]), 10)
noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
for number in range(95):
    writer.write(np.roll(noise, number, 1), number / 10)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_video_whose_writer_was_killed_can_be_played(tmp_path, suffix):
    av = pytest.importorskip("av")
    path = tmp_path / f"out.{suffix}"
    done = subprocess.run([sys.executable, "-c", WRITER, path], check=False)
    assert done.returncode == -9
    with av.open(str(path)) as container:
        played = sum(1 for _ in container.decode(video=0))
    assert 95 - 20 <= played <= 95


def test_a_video_that_cannot_be_written_is_told(tmp_path):
    pytest.importorskip("av")
    with pytest.raises(Exception, match="cannot write"):
        VideoSink(VideoSettings(path=str(tmp_path / "none" / "out.mp4")), "door")
