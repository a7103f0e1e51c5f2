"""Sources that are damaged, or no video at all."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from streams import balanced

from patchct_edge import images
from patchct_edge.runtime.stream.settings import CameraSettings

pytest.importorskip("av")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A second of 30 frames of noise over a slow gradient."""
    from patchct_edge.runtime.stream.sources.video import VideoWriter

    path = tmp_path_factory.mktemp("film") / "film.mkv"
    writer = VideoWriter(path, 30)
    rng = np.random.default_rng(0)
    for n in range(60):
        picture = rng.integers(0, 60, (96, 128, 3), dtype=np.uint8) + np.uint8(3 * n)
        writer.write(picture, n / 30)
    writer.close()
    return path


def test_a_whole_film_is_tagged_whole(stream, film):
    counts = stream(film).join().cameras["c0"]
    assert (counts.captured, counts.tagged, counts.corrupt) == (60, 60, 0)


def test_a_film_begins_again(stream, film):
    running = stream(CameraSettings(source=str(film), name="c0", loop=True), frames=150)
    assert running.join().cameras["c0"].tagged == 150
    positions = [row["position"] for row in running.rows() if row["type"] == "frame"]
    assert positions == sorted(positions)
    assert positions[-1] == pytest.approx(149 / 30, abs=0.1)


def test_a_film_in_real_time_takes_its_time_and_drops(stream, film):
    running = stream(CameraSettings(source=str(film), name="c0", realtime=True))
    counts = running.join().cameras["c0"]
    assert balanced(counts)
    rows = [row for row in running.rows() if row["type"] == "frame"]
    assert rows[-1]["position"] == pytest.approx(2, abs=0.4)


def test_a_truncated_film_is_tagged_up_to_there(stream, film, tmp_path):
    cut = tmp_path / "cut.mkv"
    whole = film.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    counts = stream(cut).join().cameras["c0"]
    assert 10 < counts.tagged < 50
    assert balanced(counts)


def test_no_frame_is_made_of_damaged_packets(stream, film, tmp_path):
    hurt = bytearray(film.read_bytes())
    rng = np.random.default_rng(1)
    for place in rng.integers(len(hurt) // 3, len(hurt), 30):
        hurt[place : place + 40] = rng.bytes(40)
    (tmp_path / "hurt.mkv").write_bytes(hurt)
    counts = stream(tmp_path / "hurt.mkv").join().cameras["c0"]
    assert counts.corrupt > 0
    assert counts.tagged < 60
    assert balanced(counts)


def test_no_frame_is_made_of_a_jpeg_that_is_cut_off(stream, tmp_path):
    rng = np.random.default_rng(2)
    pictures = [
        images.encode(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8), "JPEG") for _ in range(8)
    ]
    whole = tmp_path / "whole.mjpeg"
    whole.write_bytes(b"".join(pictures))
    assert stream(whole).join().cameras["c0"].tagged == 8
    pictures[4] = pictures[4][: len(pictures[4]) // 2]
    hurt = tmp_path / "hurt.mjpeg"
    hurt.write_bytes(b"".join(pictures))
    counts = stream(hurt).join().cameras["c0"]
    assert (counts.tagged, counts.corrupt) == (7, 1)


def test_a_file_that_is_no_video_is_an_error_and_not_for_ever(stream, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    summary = stream(tmp_path / "text.mp4").join()
    assert "cannot open" in summary.errors["c0"]


@contextmanager
def nonsense(answer):
    """A TCP server that answers whatever it is told with the same bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        stop = threading.Event()

        def talk():
            while not stop.is_set():
                try:
                    peer, _ = server.accept()
                except TimeoutError:
                    continue
                with peer:
                    peer.settimeout(0.2)
                    try:
                        peer.recv(1000)
                        peer.sendall(answer)
                        peer.recv(1000)
                    except OSError:
                        continue

        thread = threading.Thread(target=talk)
        thread.start()
        yield server.getsockname()[1]
        stop.set()
        thread.join()


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
@pytest.mark.parametrize(
    "answer", [b"\x00\xff" * 500, b"HTTP/1.1 200 OK\r\n\r\n" + b"?" * 500, b""]
)
def test_a_server_that_talks_nonsense_is_tried_again(stream, scheme, answer):
    with nonsense(answer) as port:
        running = stream(f"{scheme}://127.0.0.1:{port}/x", stall_timeout=1.0)
        running.wait_for(lambda: running.events("camera lost"))
        counts = running.end().cameras["c0"]
    assert counts.captured == 0
