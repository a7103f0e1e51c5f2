"""Sources that are damaged, or not videos at all."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from streams import is_balanced

from patchct_edge import images
from patchct_edge.runtime.stream.settings import CameraSettings

pytest.importorskip("av")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A file of two seconds, 60 frames of noise over a slow gradient."""
    from patchct_edge.runtime.stream.sinks.video_file import VideoWriter

    path = tmp_path_factory.mktemp("film") / "film.mkv"
    writer = VideoWriter(path, 30)
    rng = np.random.default_rng(0)
    for number in range(60):
        picture = rng.integers(0, 60, (96, 128, 3), dtype=np.uint8) + np.uint8(3 * number)
        writer.write(picture, number / 30)
    writer.close()
    return path


def read_positions(stream_thread):
    return [row["position"] for row in stream_thread.rows() if row["type"] == "frame"]


def test_every_frame_of_a_film_is_tagged(stream, film):
    counts = stream(film).join().cameras["c0"]
    assert (counts.captured, counts.tagged, counts.corrupt) == (60, 60, 0)


def test_a_film_in_a_loop_starts_again(stream, film):
    stream_thread = stream(CameraSettings(source=str(film), name="c0", loop=True), max_frames=150)
    assert stream_thread.join().cameras["c0"].tagged == 150
    positions = read_positions(stream_thread)
    assert positions == sorted(positions)
    assert positions[-1] == pytest.approx(149 / 30, abs=0.1)


def test_a_film_in_real_time_takes_its_time_and_drops_frames(stream, film):
    stream_thread = stream(CameraSettings(source=str(film), name="c0", realtime=True))
    counts = stream_thread.join().cameras["c0"]
    assert is_balanced(counts)
    assert read_positions(stream_thread)[-1] == pytest.approx(2, abs=0.4)


def test_a_truncated_film_is_tagged_up_to_its_end(stream, film, tmp_path):
    truncated = tmp_path / "truncated.mkv"
    content = film.read_bytes()
    truncated.write_bytes(content[: len(content) // 2])
    counts = stream(truncated).join().cameras["c0"]
    assert 10 < counts.tagged < 50
    assert is_balanced(counts)


def test_damaged_packets_yield_no_frame(stream, film, tmp_path):
    damaged = bytearray(film.read_bytes())
    rng = np.random.default_rng(1)
    for place in rng.integers(len(damaged) // 3, len(damaged), 30):
        damaged[place : place + 40] = rng.bytes(40)
    (tmp_path / "damaged.mkv").write_bytes(damaged)
    counts = stream(tmp_path / "damaged.mkv").join().cameras["c0"]
    assert counts.corrupt > 0
    assert counts.tagged < 60
    assert is_balanced(counts)


def test_a_truncated_jpeg_yields_no_frame(stream, tmp_path):
    rng = np.random.default_rng(2)
    pictures = [
        images.encode(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8), "JPEG") for _ in range(8)
    ]
    intact = tmp_path / "intact.mjpeg"
    intact.write_bytes(b"".join(pictures))
    assert stream(intact).join().cameras["c0"].tagged == 8
    pictures[4] = pictures[4][: len(pictures[4]) // 2]
    damaged = tmp_path / "damaged.mjpeg"
    damaged.write_bytes(b"".join(pictures))
    counts = stream(damaged).join().cameras["c0"]
    assert (counts.tagged, counts.corrupt) == (7, 1)


def test_a_file_that_is_not_a_video_ends_with_an_error(stream, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    summary = stream(tmp_path / "text.mp4").join()
    assert "cannot open" in summary.errors["c0"]


@contextmanager
def serve_nonsense(answer):
    """A TCP server that answers every request with the same bytes; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        stop = threading.Event()

        def answer_requests():
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

        thread = threading.Thread(target=answer_requests)
        thread.start()
        yield server.getsockname()[1]
        stop.set()
        thread.join()


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
@pytest.mark.parametrize(
    "answer", [b"\x00\xff" * 500, b"HTTP/1.1 200 OK\r\n\r\n" + b"?" * 500, b""]
)
def test_a_server_that_answers_nonsense_is_tried_again(stream, scheme, answer):
    with serve_nonsense(answer) as port:
        stream_thread = stream(f"{scheme}://127.0.0.1:{port}/x", stall_timeout=1.0)
        stream_thread.wait_for(lambda: stream_thread.events("camera lost"))
        counts = stream_thread.end().cameras["c0"]
    assert counts.captured == 0
