"""Against a real RTSP server: killed, stopped, refused, changed."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from streams import balanced, event_name

SERVER = Path(__file__).parents[3] / "support" / "rtsp_server.py"
PYTHON = "/usr/bin/python3"
BINDINGS = (
    "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module", autouse=True)
def bindings():
    pytest.importorskip("av")
    if not shutil.which(PYTHON) or subprocess.run([PYTHON, "-c", BINDINGS], check=False).returncode:
        pytest.skip("no gir1.2-gst-rtsp-server-1.0 and python3-gi")


@pytest.fixture
def serve():
    """Start a server; returns the child."""
    children = []

    def start(port, size="320x240", *user):
        child = subprocess.Popen(
            [PYTHON, str(SERVER), str(port), size, *user], stdout=subprocess.PIPE, text=True
        )
        children.append(child)
        assert child.stdout.readline() == "ready\n"
        return child

    yield start
    for child in children:
        child.send_signal(signal.SIGCONT)
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def url(port, user=""):
    return f"rtsp://{user}127.0.0.1:{port}/ball"


def frames(running):
    return [row for row in running.rows() if row["type"] == "frame"]


def test_a_server_that_is_killed_and_comes_back_is_found_again(stream, serve, port):
    child = serve(port)
    running = stream(url(port), stall_timeout=3.0)
    running.wait_for(lambda: len(frames(running)) > 10)
    child.kill()
    running.wait_for(lambda: running.events("camera lost"))
    seen = len(frames(running))
    serve(port, "160x120")  # as another size
    running.wait_for(running.is_back, 40)
    counts = running.end().cameras["c0"]
    assert counts.connects == 2
    assert len(frames(running)) > seen
    assert balanced(counts)
    # No frame between the loss and the new connection: none was made up.
    kinds = [event_name(row) for row in running.rows()]
    lost, again = kinds.index("camera lost"), len(kinds) - kinds[::-1].index("camera connected") - 1
    assert "frame" not in kinds[lost:again]


def test_a_server_that_stops_is_noticed_and_continued(stream, serve, port):
    child = serve(port)
    running = stream(url(port), stall_timeout=2.0)
    running.wait_for(lambda: len(frames(running)) > 10)
    child.send_signal(signal.SIGSTOP)
    running.wait_for(lambda: running.events("camera lost"), 15)
    child.send_signal(signal.SIGCONT)
    running.wait_for(running.is_back, 40)
    counts = running.end().cameras["c0"]
    assert counts.connects >= 2
    assert balanced(counts)


def test_it_ends_in_time_while_a_camera_hangs(stream, serve, port):
    child = serve(port)
    running = stream(url(port), stall_timeout=30.0)
    running.wait_for(lambda: len(frames(running)) > 3)
    child.send_signal(signal.SIGSTOP)
    running.control.stop_requested.set()
    assert running.join(1.5).cameras["c0"].tagged > 3


def test_a_refused_password_is_told_and_never_shown(stream, serve, port, capfd):
    serve(port, "320x240", "me", "rightword")
    running = stream(url(port, "me:wrongword@"), stall_timeout=3.0)
    running.wait_for(lambda: running.events("camera lost"))
    summary = running.end()
    said = str(running.rows()) + str(running.notes) + str(summary) + "".join(capfd.readouterr())
    assert "401" in said
    assert "wrongword" not in said


def test_the_right_password_opens(stream, serve, port, capfd):
    serve(port, "320x240", "me", "right%word")
    running = stream(url(port, "me:right%25word@"), frames=5, stall_timeout=3.0)
    assert running.join().cameras["c0"].tagged == 5
    assert "right" not in str(running.rows()) + str(running.notes) + "".join(capfd.readouterr())
