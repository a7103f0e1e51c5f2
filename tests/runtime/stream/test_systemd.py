"""Notifications to systemd."""

from __future__ import annotations

import socket
import time

import pytest

from patchct_edge.runtime.stream import systemd


@pytest.fixture
def listener(tmp_path):
    """A socket that stands for systemd's, and the environment that names it."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.setblocking(False)
        yield listener, {"NOTIFY_SOCKET": path}


def test_a_notification_arrives(listener):
    notify_socket, environment = listener
    systemd.notify("READY=1", environment)
    assert notify_socket.recv(100) == b"READY=1"


def test_without_systemd_nothing_happens(tmp_path):
    systemd.notify("READY=1", {})
    systemd.notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "missing")})


def test_the_watchdog_is_notified_every_half_of_its_interval(listener, monkeypatch):
    notify_socket, environment = listener
    seconds = iter([0.0, 0.9, 1.0, 1.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    beat = systemd.make_heartbeat({**environment, "WATCHDOG_USEC": "2000000"})
    counts = []
    for _ in range(4):
        beat()
        try:
            counts.append(len(notify_socket.recv(100)) > 0)
        except BlockingIOError:
            counts.append(False)
    assert counts == [True, False, True, False]
