"""The model of a running stream: opened, reloaded and reopened in the background.

Opening an engine may take minutes. Tagging, heartbeat and the end of the stream never wait for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

import numpy as np

from patchct_edge.arrays import Floats, ImageBatch
from patchct_edge.errors import EngineError, join_lines
from patchct_edge.logs import QUIET_PERIOD_S, RecurringFailureFilter
from patchct_edge.runtime.stream.backoff import Backoff
from patchct_edge.runtime.stream.model import StreamModel, open_model
from patchct_edge.runtime.stream.settings import StreamSettings
from patchct_edge.runtime.stream.validate import validate

HANG_TIMEOUT_S = 60.0  # of opening a model, after which it may never open

logger = logging.getLogger(__name__)
logger.addFilter(RecurringFailureFilter())


class ModelHost:
    """Owns the model of a stream, and keeps it going through reloads and failures.

    A reload that fails leaves the current model in place. An engine that fails is opened again,
    after growing delays.

    Args:
        settings: of the first model, which is opened at once.
        read_settings: returns the settings for a reload.

    Attributes:
        model: the current model.

    Raises:
        UserError: the first model cannot be opened.
    """

    def __init__(
        self, settings: StreamSettings, read_settings: Callable[[], StreamSettings]
    ) -> None:
        self.model = open_model(settings)
        self._first_settings, self._read_settings = settings, read_settings
        self._opening: Future[StreamModel] | None = None
        self._opening_since = 0.0  # in seconds of the monotonic clock, as all moments here
        self._reloading = False  # what is being opened is a reload, not a reopening after a failure
        self._failing_since: float | None = None
        self._retry_at = 0.0
        self._backoff = Backoff()
        self._has_failed, self._failure_key = False, object()

    @property
    def opening(self) -> bool:
        """Whether a model is being opened."""
        return self._opening is not None

    @property
    def hangs(self) -> bool:
        """Whether no frame can be tagged because a model may never open."""
        too_long = time.monotonic() - self._opening_since > HANG_TIMEOUT_S
        return self._failing_since is not None and self.opening and too_long

    @property
    def ready(self) -> bool:
        """Whether `score` may be called: no failure, or it is time for another attempt."""
        if self._failing_since is None:
            return True
        return not self.opening and self.retry_delay <= 0

    @property
    def retry_delay(self) -> float:
        """Seconds until the next attempt after a failure, at least 0."""
        return max(0.0, self._retry_at - time.monotonic())

    def has_failed_for(self, seconds: float) -> bool:
        """Whether the engine has failed for more than `seconds`."""
        return self._failing_since is not None and time.monotonic() - self._failing_since > seconds

    def score(self, pixels: ImageBatch) -> Floats:
        """Return the scores, float (B, M) in 0..1, of preprocessed images, uint8 (B, H, W, 3).

        Raises:
            Exception: whatever the engine raises; it is then opened again in the background.
        """
        try:
            scores = self.model.tagger.score(pixels)
            if not np.isfinite(scores).all():
                raise EngineError("the engine returned NaN or infinite scores")
        except Exception as error:
            self._handle_failure(error)
            raise
        self._failing_since = None
        if self._has_failed:  # a healthy stream spends nothing on log records
            logger.warning("the engine works again", extra={"recovery": self._failure_key})
        if time.monotonic() - self._retry_at > QUIET_PERIOD_S:
            self._backoff.reset()
        return scores

    def start_reload(self) -> None:
        """Start to read the settings again and open their model, while no other is being opened."""
        self._reloading = True
        self._start(self._reload)

    def maintain(self) -> bool:
        """Replace the model if another one has been opened; return whether it was replaced."""
        if self._opening is None or not self._opening.done():
            return False
        opening, self._opening = self._opening, None
        try:
            model = opening.result()
        except Exception as error:  # from any engine library
            if self._reloading:
                logger.warning("not reloaded, continuing as before: %s", join_lines(error))
            else:
                logger.warning("the engine cannot be opened: %s", join_lines(error))
            return False
        if model.tagger.engine is not self.model.tagger.engine:
            self.close()
        self.model = model
        if self._reloading:
            logger.info("reloaded: model %s", model.tagger.bundle.manifest.fingerprint)
        return True

    def close(self) -> None:
        """Close the engine."""
        with suppress(Exception):  # from an engine that has failed
            self.model.tagger.close()

    def _handle_failure(self, error: Exception) -> None:
        logger.warning(
            "the engine failed: %s: %s",
            type(error).__name__,
            join_lines(error),
            extra={"failure": self._failure_key},
        )
        now = time.monotonic()
        self._has_failed = True
        self._failing_since = self._failing_since or now
        self._retry_at = now + self._backoff.next_delay()
        if not self.opening:
            self._reloading = False
            settings = self.model.settings
            self._start(lambda: open_model(settings))

    def _reload(self) -> StreamModel:
        settings = self._read_settings()
        validate(settings)
        model = open_model(settings, self.model)
        if _fixed_settings(settings) != _fixed_settings(self._first_settings):
            logger.warning(
                "changes to cameras, sinks and stall_timeout take effect at the next restart"
            )
        return model

    def _start(self, open_: Callable[[], StreamModel]) -> None:
        opening: Future[StreamModel] = Future()
        self._opening, self._opening_since = opening, time.monotonic()

        def run() -> None:
            try:
                opening.set_result(open_())
            except BaseException as error:
                opening.set_exception(error)

        # A daemon: an engine that opens for minutes does not delay the end of the process.
        threading.Thread(target=run, name="open model", daemon=True).start()


def _fixed_settings(settings: StreamSettings) -> object:
    return settings.cameras, settings.sinks, settings.stall_timeout
