"""Events and the current state on an MQTT broker: the only file that imports paho-mqtt.

TOPIC/status             "online"; "offline" by the last will              retained
TOPIC/CAMERA/status      "opening", "connected", "lost" or "ended"         retained
TOPIC/CAMERA/tags        the labels that are on, a JSON list               retained
TOPIC/CAMERA/event       every event, as in JSONL

Events wait while the broker is away. The state does not: after each connection, once the broker has
acknowledged the messages from before it, the current state is published again, because the broker
may have kept an old state or none.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from patchct_edge.arrays import RGB
from patchct_edge.runtime.stream.events import CameraEvent, FrameRow, LabelEvent, Message
from patchct_edge.runtime.stream.redaction import find_secrets, redact
from patchct_edge.runtime.stream.settings import MQTTSettings
from patchct_edge.runtime.stream.sinks.base import Sink

DEFAULT_TOPIC = "patchct"
PORT_BY_SCHEME = {"mqtt": 1883, "mqtts": 8883}
RECONNECT_DELAYS_S = (1, 30)  # first and longest; doubling
QOS_AT_LEAST_ONCE = 1
MAX_UNACKNOWLEDGED = 1000  # messages
LAST_ACKNOWLEDGMENTS_TIMEOUT_S = 0.1
ACKNOWLEDGMENT_CHECK_INTERVAL_S = 0.01

logger = logging.getLogger(__name__)


class Publication(NamedTuple):
    """A message that was handed to paho-mqtt."""

    id: int
    is_event: bool


class MQTTSink(Sink):
    """An MQTT client that connects in the background, and reconnects whenever it must.

    Args:
        cameras: names of all cameras, whose retained state from an earlier process is overwritten.
    """

    def __init__(self, settings: MQTTSettings, cameras: Sequence[str]) -> None:
        super().__init__()
        self.secrets = find_secrets(settings.url)
        self.name = f"mqtt {redact(settings.url, self.secrets)}"
        self._topic = parse_topic(settings.url)
        self._active_labels: dict[str, list[str]] = {camera: [] for camera in cameras}
        self._state: dict[str, str] = {}  # payload by retained topic
        self._unpublished: set[str] = set()  # topics to publish on the current connection
        self._unacknowledged: deque[Publication] = deque()
        # Messages from before the current connection: they may reach the broker after the state.
        self._earlier_ids: set[int] = set()
        # Written by paho-mqtt's thread.
        self._acknowledged_ids: deque[int] = deque()
        self._has_connected = threading.Event()
        self._offline_received = threading.Event()
        self._last_problem = ""
        for camera in cameras:
            self._set_state(f"{self._camera_topic(camera)}/status", "opening")
            self._set_state(f"{self._camera_topic(camera)}/tags", "[]")
        self._set_state(f"{self._topic}/status", "online")  # last: the cameras' state is valid now
        self._client = self._make_client(urlsplit(settings.url))

    def open(self) -> None:
        self._client.loop_start()

    def accepts(self, message: Message) -> bool:
        return not isinstance(message, FrameRow)

    def deliver(self, message: Message, rgb: RGB | None) -> None:
        topic = self._camera_topic(message.camera)
        if isinstance(message, CameraEvent):
            self._set_state(f"{topic}/status", message.state)
        elif isinstance(message, LabelEvent):
            labels = self._update_labels(message)
            self._set_state(f"{topic}/tags", json.dumps(labels, ensure_ascii=False))
        self.maintain()
        if len(self._unacknowledged) >= MAX_UNACKNOWLEDGED:
            raise OSError("the broker has been away for too long")
        event = json.dumps(message.to_json(), ensure_ascii=False)
        publication = self._client.publish(f"{topic}/event", event, QOS_AT_LEAST_ONCE)
        self._unacknowledged.append(Publication(publication.mid, is_event=True))

    def maintain(self) -> None:
        """Publish the state again after a connection, once the earlier messages have arrived."""
        self._remove_acknowledged()
        if self._has_connected.is_set():
            self._has_connected.clear()
            self._unpublished = set(self._state)
            self._earlier_ids = {publication.id for publication in self._unacknowledged}
        if self._offline_received.is_set():
            self._offline_received.clear()
            self._unpublished.add(f"{self._topic}/status")
        self._earlier_ids &= {publication.id for publication in self._unacknowledged}
        if not self._earlier_ids and self._client.is_connected():
            self._publish_state()

    def close(self) -> int:
        self._client.on_message = None  # this sink's own "offline" needs no answer
        self._set_state(f"{self._topic}/status", "offline")
        self.maintain()
        while self._is_pending and not self.closing.wait(ACKNOWLEDGMENT_CHECK_INTERVAL_S):
            self.maintain()
        deadline = time.monotonic() + LAST_ACKNOWLEDGMENTS_TIMEOUT_S
        while self._is_pending and time.monotonic() < deadline:
            time.sleep(ACKNOWLEDGMENT_CHECK_INTERVAL_S)
            self.maintain()
        self._disconnect()
        return sum(publication.is_event for publication in self._unacknowledged)

    @property
    def _is_pending(self) -> bool:
        """Whether a message is still to be published or acknowledged."""
        return bool(self._unacknowledged or self._unpublished)

    def _make_client(self, url: SplitResult) -> Any:
        from paho.mqtt import client as mqtt

        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        client.max_queued_messages_set(0)  # no limit of its own: `deliver` has one
        client.reconnect_delay_set(*RECONNECT_DELAYS_S)
        client.will_set(f"{self._topic}/status", "offline", QOS_AT_LEAST_ONCE, retain=True)
        if url.username is not None:
            password = None if url.password is None else unquote(url.password)
            client.username_pw_set(unquote(url.username), password)
        if url.scheme == "mqtts":
            client.tls_set()
        client.on_connect = self._on_connect
        client.on_connect_fail = lambda *_: self._log_problem("no broker answers")
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.connect_async(url.hostname or "", url.port or PORT_BY_SCHEME[url.scheme])
        return client

    def _camera_topic(self, camera: str) -> str:
        return f"{self._topic}/{_escape_level(camera)}"

    def _update_labels(self, event: LabelEvent) -> list[str]:
        """Return the labels of the event's camera that are on, in the order they turned on."""
        labels = self._active_labels.setdefault(event.camera, [])
        if event.on and event.label not in labels:
            labels.append(event.label)
        elif not event.on and event.label in labels:
            labels.remove(event.label)
        return labels

    def _set_state(self, topic: str, payload: str) -> None:
        self._state[topic] = payload
        self._unpublished.add(topic)

    def _publish_state(self) -> None:
        for topic in [topic for topic in self._state if topic in self._unpublished]:
            if len(self._unacknowledged) < MAX_UNACKNOWLEDGED:
                publication = self._client.publish(
                    topic, self._state[topic], QOS_AT_LEAST_ONCE, retain=True
                )
                self._unacknowledged.append(Publication(publication.mid, is_event=False))
                self._unpublished.remove(topic)

    def _remove_acknowledged(self) -> None:
        """Forget the messages that the broker has acknowledged.

        paho-mqtt's thread appends to `_acknowledged_ids` meanwhile, so it is never replaced.
        """
        ids = {self._acknowledged_ids.popleft() for _ in range(len(self._acknowledged_ids))}
        for _ in range(len(self._unacknowledged)):
            publication = self._unacknowledged.popleft()
            if publication.id in ids:
                ids.remove(publication.id)
            else:
                self._unacknowledged.append(publication)
        self._acknowledged_ids.extend(ids)  # acknowledged before `publish` returned their id

    def _disconnect(self) -> None:
        """Disconnect; if a message is pending, so abruptly that the broker sends the last will."""
        self._client.on_disconnect = None
        connection: Any = self._client.socket()
        if connection is not None and self._is_pending:
            connection.shutdown(socket.SHUT_RDWR)
        connected = self._client.is_connected()
        self._client.disconnect()
        # Otherwise the client's thread may be waiting to reconnect; it ends by itself.
        if connected and not self._is_pending:
            self._client.loop_stop()

    def _log_problem(self, problem: str) -> None:
        """Log a problem, unless it repeats the last one; the client reconnects by itself."""
        if problem != self._last_problem:
            self._last_problem = problem
            logger.warning("%s: %s", self.name, self.describe(problem))

    # Called by paho-mqtt's thread:

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, *_: object) -> None:
        if reason.is_failure:
            self._log_problem(f"the broker refuses the connection: {reason}")
            return
        if self._last_problem:
            self._last_problem = ""
            logger.info("%s: connected", self.name)
        client.subscribe(f"{self._topic}/status", QOS_AT_LEAST_ONCE)
        self._has_connected.set()

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: Any, reason: Any, *_: object
    ) -> None:
        if reason.is_failure and not self._last_problem:
            self._log_problem(f"connection lost: {reason}")

    def _on_publish(self, client: Any, userdata: Any, message_id: int, *_: object) -> None:
        self._acknowledged_ids.append(message_id)

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        """Notice the last will of an earlier connection, which a broker may send much later."""
        if message.payload == b"offline":
            self._offline_received.set()


def parse_topic(url: str) -> str:
    """Return the topic of mqtt://USER:PASSWORD@HOST:PORT/TOPIC."""
    return unquote(urlsplit(url).path).strip("/") or DEFAULT_TOPIC


def _escape_level(name: str) -> str:
    """Replace the characters of a name that have a meaning in topics."""
    return re.sub(r"[/+#\0]", "_", name)
