"""Events and the present state on an MQTT broker: the only file that imports paho-mqtt.

TOPIC/status             "online"; "offline" by the last will              retained
TOPIC/CAMERA/status      "connected", "lost" or "ended"                    retained
TOPIC/CAMERA/tags        the labels that are on, a JSON list               retained
TOPIC/CAMERA/event       every event, as in JSONL
"""

from __future__ import annotations

import json
import re
import time
from collections import deque
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from patchct_edge.images import RGB
from patchct_edge.runtime.stream import settings
from patchct_edge.runtime.stream.address import redacted
from patchct_edge.runtime.stream.messages import CameraEvent, FrameRow, LabelEvent, Message
from patchct_edge.runtime.stream.outlets.base import Outlet

PORTS = {"mqtt": 1883, "mqtts": 8883}
TOPIC = "patchct"
RECONNECT = (1, 30)  # seconds, doubling
FAREWELL = 0.3  # seconds for the broker to acknowledge the last messages
QUEUE = 1000  # messages that wait for a broker which is away, ...
RESERVE = 1000  # ... and those of the present state, which it is told when it is back
AT_LEAST_ONCE = 1
LOOK = 0.01  # seconds between two looks whether all was acknowledged


class MQTTOutlet(Outlet):
    """A client that connects in the background, again and again."""

    def __init__(self, given: settings.MQTT) -> None:
        super().__init__()
        from paho.mqtt import client as mqtt

        self.name = f"mqtt {redacted(given.url)}"
        host, port, self._topic = _parts(given.url)
        self._retained: dict[str, str] = {f"{self._topic}/status": "online"}
        self._told = ""  # the trouble that was last told of
        self._on: dict[str, list[str]] = {}
        self._sent: deque[tuple[int, bool]] = deque()  # number, and whether it is an event
        self._acknowledged: deque[int] = deque()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._client.max_queued_messages_set(0)  # `_publish` counts
        self._client.reconnect_delay_set(*RECONNECT)
        self._client.will_set(f"{self._topic}/status", "offline", AT_LEAST_ONCE, retain=True)
        parts = urlsplit(given.url)
        if parts.username is not None:
            password = None if parts.password is None else unquote(parts.password)
            self._client.username_pw_set(unquote(parts.username), password)
        if parts.scheme == "mqtts":
            self._client.tls_set()
        self._client.on_connect = self._connected
        self._client.on_publish = self._taken
        self._client.on_connect_fail = lambda *_: self._trouble("no broker answers")
        self._client.on_disconnect = self._disconnected
        self._client.connect_async(host, port)

    def open(self) -> None:
        self._client.loop_start()

    def wants(self, message: Message) -> bool:
        return not isinstance(message, FrameRow)

    def deliver(self, message: Message, rgb: RGB | None) -> None:
        self._settle()
        base = f"{self._topic}/{_level(message.camera)}"
        if isinstance(message, CameraEvent):
            self._retain(f"{base}/status", message.state)
        elif isinstance(message, LabelEvent):
            on = self._on.setdefault(message.camera, [])
            if message.on and message.label not in on:
                on.append(message.label)
            elif not message.on and message.label in on:
                on.remove(message.label)
            self._retain(f"{base}/tags", json.dumps(on, ensure_ascii=False))
        self._publish(f"{base}/event", json.dumps(message.to_json(), ensure_ascii=False), True)

    def close(self) -> int:
        with suppress(OSError):
            self._retain(f"{self._topic}/status", "offline", most=QUEUE + RESERVE)
        while self._settle() and not self.closing.wait(LOOK):
            continue
        until = time.monotonic() + FAREWELL
        while self._settle() and time.monotonic() < until:
            time.sleep(LOOK)
        connected = self._client.is_connected()
        self._client.disconnect()
        if connected:  # else its thread may wait long for the next try; it ends by itself
            self._client.loop_stop()
        return sum(event for _, event in self._sent)

    def _retain(self, topic: str, payload: str, most: int = QUEUE) -> None:
        self._retained[topic] = payload
        self._publish(topic, payload, most=most)

    def _publish(self, topic: str, payload: str, event: bool = False, most: int = QUEUE) -> None:
        """Send an event, or else a state, which the broker retains; without a broker it waits.

        Raises:
            OSError: so many wait already.
        """
        if len(self._sent) >= most:
            raise OSError("the broker has been away for too long")
        found = self._client.publish(topic, payload, AT_LEAST_ONCE, not event)
        self._sent.append((found.mid, event))

    def _settle(self) -> int:
        """Forget what the broker has acknowledged; return how many messages it has not.

        Its library's thread adds to both queues meanwhile: they are only turned, never replaced.
        """
        done = {self._acknowledged.popleft() for _ in range(len(self._acknowledged))}
        for _ in range(len(self._sent)):
            number, event = self._sent.popleft()
            if number in done:
                done.remove(number)
            else:
                self._sent.append((number, event))
        self._acknowledged.extend(done)  # which came before `_publish` had noted it
        return len(self._sent)

    def _connected(self, client: Any, userdata: Any, flags: Any, reason: Any, *_: object) -> None:
        if reason.is_failure:
            self._trouble(f"the broker refuses: {reason}")
            return
        if self._told:
            self._told = ""
            self.say(f"{self.name}: connected")
        # A broker that was restarted may have forgotten what it retained.
        for topic, payload in list(self._retained.items()):
            with suppress(OSError):
                self._publish(topic, payload, most=QUEUE + RESERVE)

    def _disconnected(
        self, client: Any, userdata: Any, flags: Any, reason: Any, *_: object
    ) -> None:
        if reason.is_failure and not self._told:
            self._trouble(f"connection lost: {reason}")

    def _trouble(self, text: str) -> None:
        """Tell of a trouble once; the client tries again by itself."""
        if text != self._told:
            self._told = text
            self.say(f"{self.name}: {text}")

    def _taken(self, client: Any, userdata: Any, number: int, *_: object) -> None:
        self._acknowledged.append(number)


def _parts(url: str) -> tuple[str, int, str]:
    """Return host, port and topic of mqtt://USER:PASSWORD@HOST:PORT/TOPIC."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    return host, port, unquote(parts.path).strip("/") or TOPIC


def _level(name: str) -> str:
    """Return a name as one level of a topic: without the characters that mean something there."""
    return re.sub(r"[/+#\0]", "_", name)
