"""What systemd is told by a service of its: ready, alive, about to end."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping


def notify(message: str, environment: Mapping[str, str] = os.environ) -> None:
    """Send a message such as "READY=1", where systemd waits for one (sd_notify(3))."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    name = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.sendto(message.encode(), name)
        except OSError:  # no reader: the service goes on without
            return


def heartbeat(environment: Mapping[str, str] = os.environ) -> Callable[[], None]:
    """Return what to call often: it tells the watchdog in time, at half of WatchdogSec."""
    every = float(environment.get("WATCHDOG_USEC", "inf")) / 2e6
    last = float("-inf")

    def beat() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every:
            last = now
            notify("WATCHDOG=1", environment)

    return beat
