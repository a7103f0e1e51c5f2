"""The loop between cameras and outlets: newest frames, one batch, scores."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from patchct_edge.arrays import RGB
from patchct_edge.bundle import Preprocessing
from patchct_edge.errors import join_lines
from patchct_edge.runtime.stream.backoff import Backoff
from patchct_edge.runtime.stream.camera_session import CameraSession
from patchct_edge.runtime.stream.model_host import Loader
from patchct_edge.runtime.stream.roi import crop_and_fit
from patchct_edge.runtime.stream.sinks.base import SinkWorker
from patchct_edge.runtime.stream.smoothing import Hysteresis
from patchct_edge.runtime.stream.sources.camera import Camera
from patchct_edge.runtime.stream.sources.frame import Frame
from patchct_edge.runtime.stream.trouble import CALM, Trouble
from patchct_edge.runtime.tagging.tagger import Tagger

TICK = 0.1  # seconds after which the loop looks around even where no frame has come
RECENT = 10_000  # frames whose latencies are kept


class Model(NamedTuple):
    """What tags: an engine, and the rule by which its scores become steady tags."""

    tagger: Tagger
    rule: Hysteresis


class PendingFrame(NamedTuple):
    """A frame on its way to the engine: `fitted` gives it in RGB and preprocessed."""

    watched: CameraSession
    frame: Frame
    preprocessing: Preprocessing
    fitted: Future[tuple[RGB, RGB]]


@dataclass
class Control:
    """What signals ask of the loop."""

    stop_requested: threading.Event = field(default_factory=threading.Event)
    reload_requested: threading.Event = field(default_factory=threading.Event)


class Loop:
    """Tags the newest frame of every camera, one batch after the other.

    While the engine runs, the frames of its next batch are taken and fitted as they come.

    Args:
        load: opens the model; given the present one it may keep its engine. Called again on reload,
            and with None after the engine failed, by another thread.
        stall: seconds after which the labels of a camera that is gone are turned off.
        note: told what a person should know.
        alive: called in every round, at least each `TICK` seconds, unless an engine that failed
            hangs as it is opened.
    """

    def __init__(
        self,
        load: Callable[[Model | None], Model],
        cameras: Sequence[Camera],
        couriers: Sequence[SinkWorker],
        arrived: threading.Condition,
        control: Control,
        *,
        stall: float,
        note: Callable[[str], None],
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._couriers, self._arrived, self._control = couriers, arrived, control
        self._stall, self._note, self._alive = stall, note, alive
        self._model, self._loader, self._reloading = load(None), Loader(load), False
        rule, labels = self._model.rule, self._model.tagger.bundle.labels
        # A file waits for a slow outlet, but not where a camera would have to wait with it.
        stop = None if any(each.drops_frames for each in cameras) else control.stop_requested
        self._watched = [
            CameraSession(each, rule, labels, couriers, stop, note) for each in cameras
        ]
        self._ahead: list[PendingFrame] = []  # the next batch
        self._left = float("inf")  # frames to tag
        self._taker = ThreadPoolExecutor(1, "taking")
        self._fitters = ThreadPoolExecutor(min(len(cameras), os.cpu_count() or 1), "fitting")
        self._backoff, self._engine_due = Backoff(), 0.0
        self._trouble = Trouble(note)
        self._down: float | None = None  # since when the engine has failed
        self.latencies: deque[float] = deque(maxlen=RECENT)

    def run(self, frames: float = float("inf")) -> None:
        """Tag until told to stop, all sources have ended, or `frames` frames were tagged."""
        self._left = frames
        while not self._control.stop_requested.is_set():
            if self._engine_works or not self._loader.hangs:
                self._alive()
            self._look_after_model()
            batch, self._ahead = self._ahead or self._awaited(), []
            self._left -= self._tag(batch)
            if not self._engine_works:
                self._give_up()
            dark = self._down is not None and time.monotonic() - self._down > self._stall
            for watched in self._watched:
                watched.look_after(self._stall, dark)
            over = all(each.camera.done and not each.waiting for each in self._watched)
            if over or self._left <= 0 or any(courier.reader_gone for courier in self._couriers):
                break
        self._give_up()
        for watched in self._watched:
            watched.close()

    def close(self) -> None:
        """Free the engine."""
        for each in (self._taker, self._fitters):
            each.shutdown(wait=False, cancel_futures=True)
        with suppress(Exception):  # of an engine that has failed
            self._model.tagger.close()

    @property
    def _engine_works(self) -> bool:
        return self._down is None

    def _awaited(self) -> list[PendingFrame]:
        """Wait for frames, not for long, and take them."""
        wait = self._engine_due - time.monotonic()
        if not self._engine_works and (wait > 0 or self._loader.busy):
            self._control.stop_requested.wait(min(TICK, max(0.0, wait) or TICK))
            return []
        with self._arrived:
            self._arrived.wait_for(lambda: any(each.news for each in self._watched), TICK)
        return self._taken(self._most(0))

    @contextmanager
    def _taking_ahead(self, most: float) -> Iterator[None]:
        """Meanwhile, take the next batch: of each camera the first frame that comes."""
        over = threading.Event()
        taking = self._taker.submit(self._take_until, over, most)
        try:
            yield
        finally:
            with self._arrived:
                over.set()
                self._arrived.notify_all()
            self._ahead = taking.result()

    def _take_until(self, over: threading.Event, most: float) -> list[PendingFrame]:
        found: list[PendingFrame] = []
        with self._arrived:
            while not over.is_set():
                found += self._taken(most - len(found), [each.watched for each in found])
                self._arrived.wait()
        return found

    def _most(self, running: int) -> float:
        """Return how many frames the next batch may hold, while so many are with the engine."""
        return min(self._left - running, self._model.tagger.engine.best_batch)

    def _taken(self, most: float, but: Sequence[CameraSession] = ()) -> list[PendingFrame]:
        """Take the newest frame of each camera, first of those whose turn is longest ago."""
        preprocessing = self._model.tagger.bundle.preprocessing
        found: list[PendingFrame] = []
        for watched in tuple(self._watched):
            if len(found) < most and watched not in but and (frame := watched.take()) is not None:
                roi = watched.camera.settings.roi
                fitted = self._fitters.submit(crop_and_fit, frame, preprocessing, roi)
                found.append(PendingFrame(watched, frame, preprocessing, fitted))
                self._watched.remove(watched)
                self._watched.append(watched)
        return found

    def _give_up(self) -> None:
        for each in self._ahead:
            each.watched.given_up()
        self._ahead = []

    def _tag(self, batch: list[PendingFrame]) -> int:
        """Tag frames and tell what follows from them; return how many have tags."""
        good: list[tuple[PendingFrame, RGB]] = []
        pixels = []
        for each in batch:
            try:
                rgb, fitted = self._fitted(each)
            except Exception as error:  # what FFmpeg raises, or a roi outside of a smaller frame
                each.watched.failed(each.frame, error)
            else:
                good.append((each, rgb))
                pixels.append(fitted)
        if not good:
            return 0
        try:
            with self._taking_ahead(self._most(len(good))):
                scores = self._model.tagger.score(np.stack(pixels))
            if not np.isfinite(scores).all():
                raise ValueError("the engine's scores are no numbers")
        except Exception as error:  # an engine's library may raise anything
            for each, _ in good:
                each.watched.failed(each.frame, error)
            self._fail(error)
            return 0
        self._down = None
        self._trouble.worked("the engine works again")
        if time.monotonic() - self._engine_due > CALM:
            self._backoff.reset()
        ready = time.monotonic()
        for (each, rgb), row in zip(good, scores, strict=True):
            self.latencies.append(each.watched.tagged(each.frame, rgb, row, ready))
        return len(good)

    def _fitted(self, taken: PendingFrame) -> tuple[RGB, RGB]:
        preprocessing = self._model.tagger.bundle.preprocessing
        if taken.preprocessing == preprocessing:
            return taken.fitted.result()
        return crop_and_fit(
            taken.frame, preprocessing, taken.watched.camera.settings.roi
        )  # another model by now

    def _fail(self, error: Exception) -> None:
        """Open the engine anew; it is tried after longer and longer waits."""
        self._trouble.failed(f"the engine failed: {type(error).__name__}: {error}")
        now = time.monotonic()
        self._down = self._down or now
        self._engine_due = now + self._backoff.next_delay()
        if not self._loader.busy:
            self._reloading = False
            self._loader.begin(None)

    def _look_after_model(self) -> None:
        """Have thresholds and model read again on reload; take over a model that is open by now."""
        if self._control.reload_requested.is_set() and not self._loader.busy:
            self._control.reload_requested.clear()
            self._reloading = True
            self._loader.begin(self._model)
        try:
            fresh = self._loader.take()
        except Exception as error:  # as of an engine's library
            why = join_lines(error)
            self._note(
                f"not reloaded, going on as before: {why}"
                if self._reloading
                else f"the engine does not open: {why}"
            )
            return
        if fresh is None:
            return
        if fresh.tagger.engine is not self._model.tagger.engine:
            with suppress(Exception):  # of an engine that has failed
                self._model.tagger.close()
        self._take_over(fresh)
        if self._reloading:
            self._note(f"reloaded: model {fresh.tagger.bundle.manifest.fingerprint}")

    def _take_over(self, fresh: Model) -> None:
        self._model = fresh
        for watched in self._watched:
            watched.take_over(fresh.rule, fresh.tagger.bundle.labels)
