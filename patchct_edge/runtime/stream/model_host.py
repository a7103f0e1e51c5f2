"""Opens models in the background: tagging, heartbeat and the end do not wait for an engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Model = TypeVar("Model")
PATIENCE = 60.0  # seconds


class Loader(Generic[Model]):
    """Opens one model at a time.

    Args:
        load: opens a model; given the present one it may keep its engine.
    """

    def __init__(self, load: Callable[[Model | None], Model]) -> None:
        self._load = load
        self._loading: Future[Model] | None = None
        self._began = 0.0

    @property
    def hangs(self) -> bool:
        """Whether a model takes so long to open that it may never be."""
        return self.busy and time.monotonic() - self._began > PATIENCE

    @property
    def busy(self) -> bool:
        """Whether a model is being opened, or waits to be taken."""
        return self._loading is not None

    def begin(self, present: Model | None) -> None:
        """Begin to open a model."""
        self._loading, self._began = Future(), time.monotonic()
        # A daemon: an engine that opens for minutes does not hold up the end of the process.
        threading.Thread(
            target=self._run, args=(self._loading, present), name="loading", daemon=True
        ).start()

    def take(self) -> Model | None:
        """Return the model once it is open, until then None.

        Raises:
            Exception: whatever opening it raised.
        """
        if self._loading is None or not self._loading.done():
            return None
        found, self._loading = self._loading, None
        return found.result()

    def _run(self, loading: Future[Model], present: Model | None) -> None:
        try:
            loading.set_result(self._load(present))
        except BaseException as error:
            loading.set_exception(error)
