"""Notifications to systemd: ready, alive, stopping.

By hand, because sd_notify(3) is one datagram: a dependency would be longer than these lines.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping


def notify(message: str, environment: Mapping[str, str] = os.environ) -> None:
    """Send a message such as "READY=1" if systemd waits for one."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    name = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.sendto(message.encode(), name)
        except OSError:  # nobody reads it: the service runs on
            return


def make_heartbeat(environment: Mapping[str, str] = os.environ) -> Callable[[], None]:
    """Return a function to call often, which notifies the watchdog every half of WatchdogSec."""
    interval_s = float(environment.get("WATCHDOG_USEC", "inf")) / 2e6
    last_beat = float("-inf")

    def beat() -> None:
        nonlocal last_beat
        now = time.monotonic()
        if now - last_beat >= interval_s:
            last_beat = now
            notify("WATCHDOG=1", environment)

    return beat
