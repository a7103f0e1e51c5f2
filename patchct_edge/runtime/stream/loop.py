"""The loop of a stream: newest frames, one batch, scores, messages."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from patchct_edge.arrays import RGB
from patchct_edge.bundle import Preprocessing
from patchct_edge.runtime.stream.camera_session import CameraSession
from patchct_edge.runtime.stream.frame_batches import FrameBatches, PendingFrame
from patchct_edge.runtime.stream.model_host import ModelHost
from patchct_edge.runtime.stream.sinks.base import SinkWorker
from patchct_edge.runtime.stream.sources.camera import Camera

POLL_INTERVAL_S = 0.1  # after which the loop checks everything even if no frame has arrived
LATENCY_WINDOW_FRAMES = 10_000


@dataclass
class Control:
    """What another thread or a signal asks of a running stream."""

    stop_requested: threading.Event = field(default_factory=threading.Event)
    reload_requested: threading.Event = field(default_factory=threading.Event)


class Loop:
    """Tags the newest frame of every camera, one batch after the other.

    Args:
        arrived: notified of every frame and event of a camera.
        stall_timeout: seconds without tags after which the labels of a camera are turned off.
        heartbeat: called in every round, at least every `POLL_INTERVAL_S`, unless an engine that
            failed hangs while it is opened again.

    Attributes:
        latencies: of the last frames from capture to tags, in seconds.
    """

    def __init__(
        self,
        model_host: ModelHost,
        cameras: Sequence[Camera],
        workers: Sequence[SinkWorker],
        arrived: threading.Condition,
        control: Control,
        *,
        stall_timeout: float,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        self._model_host, self._workers, self._control = model_host, workers, control
        self._stall_timeout, self._heartbeat = stall_timeout, heartbeat
        model = model_host.model
        labels = model.tagger.bundle.labels
        # Files wait for a slow sink, unless a camera would have to wait with them.
        drops_frames = any(camera.drops_frames for camera in cameras)
        stop = None if drops_frames else control.stop_requested
        self._sessions = [
            CameraSession(camera, model.hysteresis, labels, workers, stop) for camera in cameras
        ]
        self._batches = FrameBatches(self._sessions, arrived)
        self._frames_left = math.inf
        self.latencies: deque[float] = deque(maxlen=LATENCY_WINDOW_FRAMES)

    def run(self, max_frames: float = math.inf) -> None:
        """Tag frames until asked to stop, all sources have ended or `max_frames` were tagged."""
        self._frames_left = max_frames
        while not self._control.stop_requested.is_set():
            if not self._model_host.hangs:
                self._heartbeat()
            self._maintain_model()
            batch = self._next_batch()
            self._frames_left -= self._tag(batch)
            self._check_cameras()
            if self._frames_left <= 0 or self._all_sources_ended() or self._any_reader_gone():
                break
        self._batches.drop_prefetched()
        for session in self._sessions:
            session.close()

    def close(self) -> None:
        """Close the engine and end the threads."""
        self._batches.close()
        self._model_host.close()

    def _maintain_model(self) -> None:
        reload_requested = self._control.reload_requested
        if reload_requested.is_set() and not self._model_host.opening:
            reload_requested.clear()  # first: a signal that comes now asks for another reload
            self._model_host.start_reload()
        if self._model_host.maintain():
            model = self._model_host.model
            for session in self._sessions:
                session.use_model(model.hysteresis, model.tagger.bundle.labels)

    def _next_batch(self) -> list[PendingFrame]:
        """Return the frames to tag next; none if none has arrived or the engine is not ready."""
        batch = self._batches.take_prefetched()
        if batch:
            return batch
        if not self._model_host.ready:
            delay = self._model_host.retry_delay or POLL_INTERVAL_S
            self._control.stop_requested.wait(min(POLL_INTERVAL_S, delay))
            return []
        return self._batches.wait_and_take(
            self._preprocessing, self._max_batch(in_engine=0), POLL_INTERVAL_S
        )

    def _tag(self, batch: Sequence[PendingFrame]) -> int:
        """Score frames and send their tags or failures; return how many were tagged."""
        fitted, pixels = self._fit(batch)
        if not fitted:
            return 0
        try:
            max_next = self._max_batch(in_engine=len(fitted))
            with self._batches.prefetch(self._preprocessing, max_next):
                scores = self._model_host.score(np.stack(pixels))
        except Exception as error:  # an engine's library may raise anything
            for pending, _ in fitted:
                pending.session.send_failure(pending.frame, error)
            self._batches.drop_prefetched()
            return 0
        ready = time.monotonic()
        for (pending, rgb), frame_scores in zip(fitted, scores, strict=True):
            latency = pending.session.send_tags(pending.frame, rgb, frame_scores, ready)
            self.latencies.append(latency)
        return len(fitted)

    def _fit(
        self, batch: Sequence[PendingFrame]
    ) -> tuple[list[tuple[PendingFrame, RGB]], list[RGB]]:
        """Return the frames that could be fitted with their RGB, and the engine's input of each."""
        fitted: list[tuple[PendingFrame, RGB]] = []
        pixels: list[RGB] = []
        for pending in batch:
            try:
                rgb, region = pending.fit(self._preprocessing)
            except Exception as error:  # from any decoder, or a region beyond a smaller frame
                pending.session.send_failure(pending.frame, error)
            else:
                fitted.append((pending, rgb))
                pixels.append(region)
        return fitted, pixels

    def _check_cameras(self) -> None:
        engine_failed = self._model_host.has_failed_for(self._stall_timeout)
        for session in self._sessions:
            session.check(self._stall_timeout, engine_failed)

    def _all_sources_ended(self) -> bool:
        return all(session.camera.done and not session.has_frames for session in self._sessions)

    def _any_reader_gone(self) -> bool:
        return any(worker.reader_gone for worker in self._workers)

    @property
    def _preprocessing(self) -> Preprocessing:
        return self._model_host.model.tagger.bundle.preprocessing

    def _max_batch(self, in_engine: int) -> float:
        """Return how many frames the next batch may hold while `in_engine` are being tagged."""
        best_batch = self._model_host.model.tagger.engine.best_batch
        return min(self._frames_left - in_engine, best_batch)
