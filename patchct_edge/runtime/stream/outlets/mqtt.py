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
QUEUE = 1000  # messages that wait for a broker which is away
AT_LEAST_ONCE = 1


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
        self._published = self._acknowledged = 0
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._client.max_queued_messages_set(QUEUE)
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
        self._publish(f"{base}/event", json.dumps(message.to_json(), ensure_ascii=False))

    def close(self) -> int:
        self._publish(f"{self._topic}/status", "offline", retain=True)
        until = time.monotonic() + FAREWELL
        while self._published > self._acknowledged and time.monotonic() < until:
            time.sleep(0.01)
        connected = self._client.is_connected()
        self._client.disconnect()
        if connected:  # else its thread may wait long for the next try; it ends by itself
            self._client.loop_stop()
        return self._published - self._acknowledged

    def _retain(self, topic: str, payload: str) -> None:
        self._retained[topic] = payload
        self._publish(topic, payload, retain=True)

    def _publish(self, topic: str, payload: str, *, retain: bool = False) -> None:
        found = self._client.publish(topic, payload, AT_LEAST_ONCE, retain)
        if found.rc not in (0, 4):  # 4: not connected, and queued
            raise OSError(f"not queued, code {found.rc}: the broker has been away for too long")
        self._published += 1

    def _connected(self, client: Any, userdata: Any, flags: Any, reason: Any, *_: object) -> None:
        if reason.is_failure:
            self._trouble(f"the broker refuses: {reason}")
            return
        if self._told:
            self._told = ""
            self.say(f"{self.name}: connected")
        # A broker that was restarted may have forgotten what it retained.
        for topic, payload in list(self._retained.items()):
            self._publish(topic, payload, retain=True)

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

    def _taken(self, *_: object) -> None:
        self._acknowledged += 1


def _parts(url: str) -> tuple[str, int, str]:
    """Return host, port and topic of mqtt://USER:PASSWORD@HOST:PORT/TOPIC."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    return host, port, unquote(parts.path).strip("/") or TOPIC


def _level(name: str) -> str:
    """Return a name as one level of a topic: without the characters that mean something there."""
    return re.sub(r"[/+#\0]", "_", name)
