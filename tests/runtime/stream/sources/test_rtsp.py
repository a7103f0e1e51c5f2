"""RTSP against a real server that is killed, stopped, refuses or changes its size."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from streams import event_name, is_balanced

SERVER_SCRIPT = Path(__file__).parents[3] / "support" / "rtsp_server.py"
SYSTEM_PYTHON = "/usr/bin/python3"
IMPORT_BINDINGS = (
    "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module", autouse=True)
def require_bindings():
    pytest.importorskip("av")
    if (
        not shutil.which(SYSTEM_PYTHON)
        or subprocess.run([SYSTEM_PYTHON, "-c", IMPORT_BINDINGS], check=False).returncode
    ):
        pytest.skip("no gir1.2-gst-rtsp-server-1.0 and python3-gi")


@pytest.fixture
def start_server():
    """A function that starts a server and returns its process."""
    servers = []

    def start(port, size="320x240", *user):
        server = subprocess.Popen(
            [SYSTEM_PYTHON, str(SERVER_SCRIPT), str(port), size, *user],
            stdout=subprocess.PIPE,
            text=True,
        )
        servers.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        return server

    yield start
    for server in servers:
        server.send_signal(signal.SIGCONT)
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


@pytest.fixture
def port():
    """A free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def ball_url(port, user=""):
    return f"rtsp://{user}127.0.0.1:{port}/ball"


def count_frames(stream_thread):
    return sum(row["type"] == "frame" for row in stream_thread.rows())


def test_a_restarted_server_is_reconnected(stream, start_server, port):
    server = start_server(port)
    stream_thread = stream(ball_url(port), stall_timeout=3.0)
    stream_thread.wait_for(lambda: count_frames(stream_thread) > 10)
    server.kill()
    stream_thread.wait_for(lambda: stream_thread.events("camera lost"))
    frames_before = count_frames(stream_thread)
    start_server(port, "160x120")  # another size
    stream_thread.wait_for(stream_thread.has_reconnected, 40)
    counts = stream_thread.end().cameras["c0"]
    assert counts.connects == 2
    assert count_frames(stream_thread) > frames_before
    assert is_balanced(counts)
    # No frame was made up between the loss and the new connection.
    names = [event_name(row) for row in stream_thread.rows()]
    lost = names.index("camera lost")
    reconnected = len(names) - names[::-1].index("camera connected") - 1
    assert "frame" not in names[lost:reconnected]


def test_a_server_that_hangs_is_noticed_and_reconnected(stream, start_server, port):
    server = start_server(port)
    stream_thread = stream(ball_url(port), stall_timeout=2.0)
    stream_thread.wait_for(lambda: count_frames(stream_thread) > 10)
    server.send_signal(signal.SIGSTOP)
    stream_thread.wait_for(lambda: stream_thread.events("camera lost"), 15)
    server.send_signal(signal.SIGCONT)
    stream_thread.wait_for(stream_thread.has_reconnected, 40)
    counts = stream_thread.end().cameras["c0"]
    assert counts.connects >= 2
    assert is_balanced(counts)


def test_a_stream_ends_in_time_while_a_camera_hangs(stream, start_server, port):
    server = start_server(port)
    stream_thread = stream(ball_url(port), stall_timeout=30.0)
    stream_thread.wait_for(lambda: count_frames(stream_thread) > 3)
    server.send_signal(signal.SIGSTOP)
    stream_thread.control.stop_requested.set()
    assert stream_thread.join(1.5).cameras["c0"].tagged > 3


def test_a_refused_password_is_reported_but_never_shown(stream, start_server, port, capfd):
    start_server(port, "320x240", "me", "rightword")
    stream_thread = stream(ball_url(port, "me:wrongword@"), stall_timeout=3.0)
    stream_thread.wait_for(lambda: stream_thread.events("camera lost"))
    summary = stream_thread.end()
    output = (
        str(stream_thread.rows())
        + str(stream_thread.messages)
        + str(summary)
        + "".join(capfd.readouterr())
    )
    assert "401" in output
    assert "wrongword" not in output


def test_the_right_password_opens_the_stream(stream, start_server, port, capfd):
    start_server(port, "320x240", "me", "right%word")
    stream_thread = stream(ball_url(port, "me:right%25word@"), max_frames=5, stall_timeout=3.0)
    assert stream_thread.join().cameras["c0"].tagged == 5
    assert "right" not in str(stream_thread.rows()) + str(stream_thread.messages) + "".join(
        capfd.readouterr()
    )
