"""Events and the present state on an MQTT broker: the only file that imports paho-mqtt.

TOPIC/status             "online"; "offline" by the last will              retained
TOPIC/CAMERA/status      "opening", "connected", "lost" or "ended"         retained
TOPIC/CAMERA/tags        the labels that are on, a JSON list               retained
TOPIC/CAMERA/event       every event, as in JSONL

Events wait for a broker that is away. The state does not: once the broker is back and has taken
what waited, it is told the present one, for it may have kept an old one, or none.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from patchct_edge.arrays import RGB
from patchct_edge.runtime.stream.events import CameraEvent, FrameRow, LabelEvent, Message
from patchct_edge.runtime.stream.settings import MQTTSettings
from patchct_edge.runtime.stream.sinks.base import Sink
from patchct_edge.runtime.stream.sources.address import find_secrets, mqtt_topic, redact

PORTS = {"mqtt": 1883, "mqtts": 8883}
RECONNECT = (1, 30)  # seconds, doubling
FAREWELL = 0.1  # seconds for the broker to acknowledge the last messages
QUEUE = 1000  # messages that the broker has not acknowledged
AT_LEAST_ONCE = 1
LOOK = 0.01  # seconds between two looks whether all was acknowledged


class MQTTSink(Sink):
    """A client that connects in the background, again and again.

    Args:
        cameras: their names; what a process that died has left of their state is overwritten.
    """

    def __init__(self, given: MQTTSettings, cameras: Sequence[str]) -> None:
        super().__init__()
        from paho.mqtt import client as mqtt

        self.secrets = find_secrets(given.url)
        self.name = f"mqtt {redact(given.url, self.secrets)}"
        self._topic = mqtt_topic(given.url)
        self._state: dict[str, str] = {}  # payload of each retained topic
        self._untold: set[str] = set()  # topics whose payload this connection was not told
        self._came = threading.Event()  # a connection has come about
        self._denied = threading.Event()  # somebody has said that this stream is offline
        self._older: set[int] = set()  # numbers of messages from before it, which may come late
        self._told = ""  # the trouble that was last told of
        self._on: dict[str, list[str]] = {}
        for camera in cameras:
            self._note_state(f"{self._base(camera)}/status", "opening")
            self._note_state(f"{self._base(camera)}/tags", "[]")
        self._note_state(f"{self._topic}/status", "online")  # the last: now the others hold
        self._sent: deque[tuple[int, bool]] = deque()  # number, and whether it is an event
        self._acknowledged: deque[int] = deque()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._client.max_queued_messages_set(0)  # `deliver` counts
        self._client.reconnect_delay_set(*RECONNECT)
        self._client.will_set(f"{self._topic}/status", "offline", AT_LEAST_ONCE, retain=True)
        parts = urlsplit(given.url)
        port = parts.port or PORTS[parts.scheme]
        if parts.username is not None:
            password = None if parts.password is None else unquote(parts.password)
            self._client.username_pw_set(unquote(parts.username), password)
        if parts.scheme == "mqtts":
            self._client.tls_set()
        self._client.on_connect = self._connected
        self._client.on_publish = self._taken
        self._client.on_message = self._heard
        self._client.on_connect_fail = lambda *_: self._trouble("no broker answers")
        self._client.on_disconnect = self._disconnected
        self._client.connect_async(parts.hostname or "", port)

    def open(self) -> None:
        self._client.loop_start()

    def wants(self, message: Message) -> bool:
        return not isinstance(message, FrameRow)

    def deliver(self, message: Message, rgb: RGB | None) -> None:
        base = self._base(message.camera)
        if isinstance(message, CameraEvent):
            self._note_state(f"{base}/status", message.state)
        elif isinstance(message, LabelEvent):
            on = self._on.setdefault(message.camera, [])
            if message.on and message.label not in on:
                on.append(message.label)
            elif not message.on and message.label in on:
                on.remove(message.label)
            self._note_state(f"{base}/tags", json.dumps(on, ensure_ascii=False))
        self.idle()
        if len(self._sent) >= QUEUE:
            raise OSError("the broker has been away for too long")
        event = json.dumps(message.to_json(), ensure_ascii=False)
        found = self._client.publish(f"{base}/event", event, AT_LEAST_ONCE)
        self._sent.append((found.mid, True))

    def idle(self) -> None:
        self._settle()
        if self._came.is_set():
            self._came.clear()
            self._untold = set(self._state)
            self._older = {number for number, _ in self._sent}
        if self._denied.is_set():
            self._denied.clear()
            self._untold.add(f"{self._topic}/status")
        self._older.intersection_update(number for number, _ in self._sent)
        if self._older or not self._client.is_connected():
            return
        for topic in [topic for topic in self._state if topic in self._untold]:
            if len(self._sent) < QUEUE:
                found = self._client.publish(topic, self._state[topic], AT_LEAST_ONCE, retain=True)
                self._sent.append((found.mid, False))
                self._untold.remove(topic)

    def close(self) -> int:
        self._client.on_message = None  # of its own farewell
        self._note_state(f"{self._topic}/status", "offline")
        self.idle()
        while self._pending and not self.closing.wait(LOOK):
            self.idle()
        until = time.monotonic() + FAREWELL
        while self._pending and time.monotonic() < until:
            time.sleep(LOOK)
            self.idle()
        self._part()
        return sum(event for _, event in self._sent)

    @property
    def _pending(self) -> bool:
        """Whether the broker has not been told, or has not acknowledged, all."""
        return bool(self._sent or self._untold)

    def _part(self) -> None:
        """Leave the broker: without a goodbye where it was not told all, but by the last will."""
        self._client.on_disconnect = None
        connection: Any = self._client.socket()
        if connection is not None and self._pending:
            connection.shutdown(socket.SHUT_RDWR)
        connected = self._client.is_connected()
        self._client.disconnect()
        # Else its thread may wait long for the next try; it ends by itself.
        if connected and not self._pending:
            self._client.loop_stop()

    def _base(self, camera: str) -> str:
        return f"{self._topic}/{_level(camera)}"

    def _note_state(self, topic: str, payload: str) -> None:
        self._state[topic] = payload
        self._untold.add(topic)

    def _settle(self) -> None:
        """Forget what the broker has acknowledged.

        Its library's thread adds to one queue meanwhile, which is only turned, never replaced.
        """
        done = {self._acknowledged.popleft() for _ in range(len(self._acknowledged))}
        for _ in range(len(self._sent)):
            number, event = self._sent.popleft()
            if number in done:
                done.remove(number)
            else:
                self._sent.append((number, event))
        self._acknowledged.extend(done)  # which came before its number was noted

    def _connected(self, client: Any, userdata: Any, flags: Any, reason: Any, *_: object) -> None:
        if reason.is_failure:
            self._trouble(f"the broker refuses: {reason}")
            return
        if self._told:
            self._told = ""
            self.say(f"{self.name}: connected")
        client.subscribe(f"{self._topic}/status", AT_LEAST_ONCE)
        self._came.set()

    def _heard(self, client: Any, userdata: Any, message: Any) -> None:
        """Notice the last will of an earlier connection, which a broker may publish much later."""
        if message.payload == b"offline":
            self._denied.set()

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


def _level(name: str) -> str:
    """Return a name as one level of a topic: without the characters that mean something there."""
    return re.sub(r"[/+#\0]", "_", name)
