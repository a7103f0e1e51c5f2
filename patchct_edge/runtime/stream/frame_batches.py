"""Batches of the newest frames: the next one is taken and fitted while the engine runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

from patchct_edge.arrays import RGB
from patchct_edge.bundle import Preprocessing
from patchct_edge.parallel import count_workers
from patchct_edge.runtime.stream.camera_session import CameraSession
from patchct_edge.runtime.stream.roi import crop_and_fit
from patchct_edge.runtime.stream.sources.frame import Frame


class PendingFrame(NamedTuple):
    """A frame on its way to the engine.

    Attributes:
        fitting: gives the frame in RGB and fitted by `preprocessing`.
    """

    session: CameraSession
    frame: Frame
    preprocessing: Preprocessing
    fitting: Future[tuple[RGB, RGB]]

    def fit(self, preprocessing: Preprocessing) -> tuple[RGB, RGB]:
        """Return the frame and its region fitted to the engine; see `crop_and_fit`.

        Raises:
            Exception: the picture cannot be converted, or the region reaches beyond it.
        """
        if preprocessing == self.preprocessing:
            return self.fitting.result()
        # The model was replaced after the frame was taken.
        return crop_and_fit(self.frame, preprocessing, self.session.camera.settings.roi)


class FrameBatches:
    """Takes the newest frame of each camera, cameras in turn, and fits it in other threads.

    Args:
        arrived: notified of every frame and event of a camera.
    """

    def __init__(self, sessions: Sequence[CameraSession], arrived: threading.Condition) -> None:
        self._sessions = list(sessions)  # the one whose turn is next comes first
        self._arrived = arrived
        self._prefetched: list[PendingFrame] = []
        self._taker = ThreadPoolExecutor(1, "take")
        self._fitters = ThreadPoolExecutor(min(len(sessions), count_workers()), "fit")

    def take_prefetched(self) -> list[PendingFrame]:
        """Return the batch that `prefetch` took; it may be empty."""
        batch, self._prefetched = self._prefetched, []
        return batch

    def wait_and_take(
        self, preprocessing: Preprocessing, max_frames: float, timeout: float
    ) -> list[PendingFrame]:
        """Wait at most `timeout` seconds for a frame or an event, and take what is there."""
        with self._arrived:
            self._arrived.wait_for(lambda: any(s.has_news for s in self._sessions), timeout)
        return self._take(preprocessing, max_frames, ())

    @contextmanager
    def prefetch(self, preprocessing: Preprocessing, max_frames: float) -> Iterator[None]:
        """Take the next batch within the block: of each camera the first frame that arrives."""
        over = threading.Event()
        taking = self._taker.submit(self._take_until, over, preprocessing, max_frames)
        try:
            yield
        finally:
            with self._arrived:
                over.set()
                self._arrived.notify_all()
            self._prefetched = taking.result()

    def drop_prefetched(self) -> None:
        """Drop the frames that `prefetch` took."""
        for pending in self.take_prefetched():
            pending.session.drop_frame()

    def close(self) -> None:
        """End the threads without waiting for them."""
        for pool in (self._taker, self._fitters):
            pool.shutdown(wait=False, cancel_futures=True)

    def _take_until(
        self, over: threading.Event, preprocessing: Preprocessing, max_frames: float
    ) -> list[PendingFrame]:
        batch: list[PendingFrame] = []
        with self._arrived:
            while not over.is_set():
                taken_from = [pending.session for pending in batch]
                batch += self._take(preprocessing, max_frames - len(batch), taken_from)
                self._arrived.wait()
        return batch

    def _take(
        self, preprocessing: Preprocessing, max_frames: float, excluded: Sequence[CameraSession]
    ) -> list[PendingFrame]:
        """Take the newest frame of each camera, first from those whose turn is longest ago."""
        batch: list[PendingFrame] = []
        for session in tuple(self._sessions):
            if len(batch) >= max_frames:
                break
            if session in excluded or (frame := session.take_frame()) is None:
                continue
            roi = session.camera.settings.roi
            fitting = self._fitters.submit(crop_and_fit, frame, preprocessing, roi)
            batch.append(PendingFrame(session, frame, preprocessing, fitting))
            self._sessions.remove(session)
            self._sessions.append(session)
        return batch
