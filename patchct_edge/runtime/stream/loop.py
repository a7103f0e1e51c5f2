"""The loop between cameras and outlets: newest frames, one batch, scores, steady tags, messages."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from patchct_edge.errors import UserError, on_one_line
from patchct_edge.images import RGB, Box
from patchct_edge.runtime.stream import settings
from patchct_edge.runtime.stream.backoff import Backoff
from patchct_edge.runtime.stream.camera import Camera
from patchct_edge.runtime.stream.frame import Frame
from patchct_edge.runtime.stream.messages import FrameRow, LabelEvent, Message
from patchct_edge.runtime.stream.outlets.base import Courier
from patchct_edge.runtime.stream.steady import Change, Rule, Steady
from patchct_edge.runtime.tagger import Tagger
from patchct_edge.tagging import Tag

TICK = 0.2  # seconds after which the loop looks around even where no frame has come
RECENT = 10_000  # frames whose latencies are kept


class Model(NamedTuple):
    """What tags: an engine, and the rule by which its scores become steady tags."""

    tagger: Tagger
    rule: Rule


@dataclass
class Watched:
    """A camera and what is known of its labels."""

    camera: Camera
    steady: Steady
    origin: float | None = None  # position of its first frame
    lost: float | None = None  # moment of the monotonic clock


@dataclass
class Orders:
    """What signals ask of the loop."""

    stop: threading.Event = field(default_factory=threading.Event)
    reload: threading.Event = field(default_factory=threading.Event)


class Loop:
    """Tags the newest frame of every camera, one batch after the other.

    Args:
        load: opens the model; given the present one it may keep its engine. Called again on reload,
            and with None after the engine failed.
        stall: seconds after which the labels of a camera that is gone are turned off.
        note: told what a person should know.
        alive: called in every round, at least each `TICK` seconds.
    """

    def __init__(
        self,
        load: Callable[[Model | None], Model],
        cameras: Sequence[Camera],
        couriers: Sequence[Courier],
        arrived: threading.Condition,
        *,
        stall: float,
        note: Callable[[str], None],
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._load, self._couriers, self._arrived = load, couriers, arrived
        self._stall, self._note, self._alive = stall, note, alive
        self._model = load(None)
        self._watched = [Watched(each, Steady(self._model.rule)) for each in cameras]
        self._first = 0  # whose turn it is to be first
        self._backoff, self._engine_due = Backoff(), 0.0
        self._engine_works = True
        self.latencies: deque[float] = deque(maxlen=RECENT)

    def run(self, orders: Orders, frames: int | None = None) -> None:
        """Tag until told to stop, all sources have ended, or `frames` frames were tagged."""
        done = 0
        while not orders.stop.is_set():
            self._alive()
            if orders.reload.is_set():
                orders.reload.clear()
                self._reload()
            with self._arrived:
                self._arrived.wait_for(self._something, TICK)
            most = self._model.tagger.engine.best_batch
            taken = self._taken(most if frames is None else min(most, frames - done))
            if taken:
                done += self._tag(taken, orders.stop)
            for watched in self._watched:
                self._look_after(watched, orders.stop)
            over = all(each.camera.done and not each.camera.mailbox for each in self._watched)
            if over or done == frames or any(courier.gone for courier in self._couriers):
                return

    def close(self) -> None:
        """Free the engine."""
        self._model.tagger.close()

    def _something(self) -> bool:
        cameras = [watched.camera for watched in self._watched]
        return any(each.mailbox or each.events for each in cameras)

    def _taken(self, most: int) -> list[tuple[Watched, Frame]]:
        """Take the newest frame of each camera, of another one first each time."""
        if time.monotonic() < self._engine_due and not self._engine_works:
            time.sleep(min(TICK, max(0.0, self._engine_due - time.monotonic())))
            return []
        count = len(self._watched)
        order = [self._watched[(self._first + n) % count] for n in range(count)]
        self._first = (self._first + 1) % count
        found: list[tuple[Watched, Frame]] = []
        for watched in order:
            if len(found) < most and (frame := watched.camera.mailbox.take()) is not None:
                found.append((watched, frame))
        return found

    def _tag(self, taken: list[tuple[Watched, Frame]], stop: threading.Event) -> int:
        """Tag frames and send what follows from them; return how many have tags."""
        recipe = self._model.tagger.bundle.manifest.recipe
        good: list[tuple[Watched, Frame, RGB]] = []
        pixels = []
        for watched, frame in taken:
            try:
                rgb = frame.pixels()
                pixels.append(recipe.apply(rgb, box_of(rgb, watched.camera.settings.roi)))
                good.append((watched, frame, rgb))
            except Exception as error:  # what FFmpeg raises, or a roi outside of a smaller frame
                self._failed(watched, frame, error, stop)
        if not good:
            return 0
        try:
            scores = self._model.tagger.scores(np.stack(pixels))
            if not np.isfinite(scores).all():
                raise ValueError("the engine's scores are no numbers")
        except Exception as error:  # an engine's library may raise anything
            for watched, frame, _ in good:
                self._failed(watched, frame, error, stop)
            self._reopen(error)
            return 0
        self._engine_works = True
        self._backoff.reset()
        ready = time.monotonic()
        for (watched, frame, rgb), row in zip(good, scores, strict=True):
            self._hear(watched, stop, frame.number)
            changes = watched.steady.update(row, frame.position)
            watched.camera.counts.tagged += 1
            self._send(self._row(watched, frame, ready), rgb, watched, stop)
            for event in self._events(watched, changes, frame.position, frame.wall, "score"):
                self._send(event, rgb, watched, stop)
        return len(good)

    def _row(self, watched: Watched, frame: Frame, ready: float) -> FrameRow:
        steady, labels = watched.steady, self._model.tagger.bundle.labels
        tags = [Tag(labels[m], float(steady.scores[m])) for m in steady.tags()]
        tags.sort(key=lambda tag: -tag.score)
        watched.origin = frame.position if watched.origin is None else watched.origin
        latency = ready - frame.captured
        self.latencies.append(latency)
        return FrameRow(
            watched.camera.name, frame.number, frame.wall, frame.position - watched.origin, latency,
            tags,
        )  # fmt: skip

    def _failed(
        self, watched: Watched, frame: Frame, error: Exception, stop: threading.Event
    ) -> None:
        watched.camera.counts.failed += 1
        row = FrameRow(
            watched.camera.name, frame.number, frame.wall, 0.0, time.monotonic() - frame.captured,
            error=(type(error).__name__, on_one_line(error)),
        )  # fmt: skip
        self._send(row, None, watched, stop)

    def _look_after(self, watched: Watched, stop: threading.Event) -> None:
        """Free a camera that hangs; turn the labels of one off that has been gone for too long."""
        watched.camera.check()
        if not watched.camera.mailbox:
            self._hear(watched, stop)
        gone = watched.lost is not None and time.monotonic() - watched.lost > self._stall
        if gone or (watched.camera.done and not watched.camera.mailbox):
            self._forget(watched, stop)

    def _hear(self, watched: Watched, stop: threading.Event, before: float = float("inf")) -> None:
        """Pass on what a camera had to tell before a frame of this number."""
        events = watched.camera.events
        while events and events[0].after < before:
            event = events.popleft()
            connected = event.state == "connected"
            watched.lost = None if connected else time.monotonic()
            if not connected or watched.camera.counts.connects > 1:
                self._note(f"{event.camera}: {event.state}, {event.reason or 'again'}")
            self._send(event, None, watched, stop)

    def _forget(self, watched: Watched, stop: threading.Event) -> None:
        now = time.time()
        for event in self._events(watched, watched.steady.forget(0.0), 0.0, now, "lost"):
            self._send(event, None, watched, stop)

    def _events(
        self, watched: Watched, changes: Sequence[Change], position: float, wall: float,
        reason: settings.Reason,
    ) -> Iterator[LabelEvent]:  # fmt: skip
        labels = self._model.tagger.bundle.labels
        for change in changes:
            yield LabelEvent(
                watched.camera.name, labels[change.label], change.on, change.score, wall,
                wall - (position - change.since), reason,
            )  # fmt: skip

    def _send(
        self, message: Message, rgb: RGB | None, watched: Watched, stop: threading.Event
    ) -> None:
        for courier in self._couriers:
            courier.put(message, rgb, None if watched.camera.drops else stop)

    def _reopen(self, error: Exception) -> None:
        """Open the engine anew, at once the first time, then after longer and longer waits."""
        if self._engine_works:
            self._note(f"the engine failed: {type(error).__name__}: {error}")
        self._engine_works = False
        self._engine_due = time.monotonic() + self._backoff.delay()
        try:
            fresh = self._load(None)
        except Exception as again:  # as above
            self._note(f"the engine does not open: {again}")
            return
        self._model.tagger.close()
        self._take_over(fresh)

    def _reload(self) -> None:
        """Read thresholds and model again; where that fails the present ones go on."""
        try:
            fresh = self._load(self._model)
        except UserError as error:
            self._note(f"not reloaded, going on as before: {error}")
            return
        if fresh.tagger.engine is not self._model.tagger.engine:
            self._model.tagger.close()
        self._take_over(fresh)
        self._note(f"reloaded: model {fresh.tagger.bundle.manifest.fingerprint}")

    def _take_over(self, fresh: Model) -> None:
        same = fresh.tagger.bundle.labels == self._model.tagger.bundle.labels
        for watched in self._watched:
            if same:
                watched.steady.rule = fresh.rule
            else:
                self._forget(watched, threading.Event())
                watched.steady = Steady(fresh.rule)
        self._model = fresh


def box_of(rgb: RGB, roi: settings.Roi | None) -> Box | None:
    """Return the box (left, top, right, bottom) in pixels of a region of a frame.

    Raises:
        UserError: it reaches beyond the frame.
    """
    if roi is None:
        return None
    height, width = rgb.shape[:2]
    x, y, w, h = roi
    if max(roi) <= 1:
        x, y, w, h = x * width, y * height, w * width, h * height
    if x + w > width + 0.5 or y + h > height + 0.5:
        raise UserError(
            "the region of interest reaches beyond the frame",
            got=f"{x:g},{y:g},{w:g},{h:g} in {width} x {height}", fix="fractions fit every size",
        )  # fmt: skip
    return (x, y, min(x + w, width), min(y + h, height))
