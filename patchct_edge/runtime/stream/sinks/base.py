"""The interface of every sink, and the bounded queue before it that keeps cameras from waiting."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import asdict, dataclass
from typing import NamedTuple

from patchct_edge.arrays import RGB
from patchct_edge.errors import join_lines
from patchct_edge.logs import RecurringFailureFilter
from patchct_edge.runtime.stream.events import Message
from patchct_edge.runtime.stream.redaction import redact

MAINTENANCE_INTERVAL_S = 0.2  # while no message arrives
BACKPRESSURE_CHECK_INTERVAL_S = 0.1

logger = logging.getLogger(__name__)
logger.addFilter(RecurringFailureFilter())


class Sink(ABC):
    """A receiver of messages. One thread calls `open`, `deliver`, `maintain` and `close`.

    Attributes:
        name: its name in messages, without a password.
        secrets: passwords that no log record may show.
        capacity: messages that may wait for it.
        backpressure: a full queue makes files wait instead of dropping messages; cameras never
            wait.
        closing: set when `deliver` and `close` must stop retrying and waiting.
    """

    name: str
    secrets: tuple[str, ...] = ()
    capacity: int = 1000
    backpressure: bool = False

    def __init__(self) -> None:
        self.closing = threading.Event()

    def open(self) -> None:
        """Start in the sink's thread, before the first message.

        Invalid settings are reported earlier, by `__init__`. If this raises an exception, all
        messages of the sink are lost.
        """
        return

    @abstractmethod
    def accepts(self, message: Message) -> bool:
        """Whether this sink takes a message."""

    def needs_picture(self, message: Message) -> bool:
        """Whether an accepted message is delivered with its frame's picture."""
        return False

    @abstractmethod
    def deliver(self, message: Message, rgb: RGB | None) -> None:
        """Deliver one message.

        Args:
            rgb: uint8 (H, W, 3), if `needs_picture`.

        Raises:
            Exception: the message was not delivered.
            BrokenPipeError: it was not, and no other will be: the reader has gone.
        """

    def maintain(self) -> None:
        """Do periodic work; called every `MAINTENANCE_INTERVAL_S` while no message arrives."""
        return

    def close(self) -> int:
        """Flush and close; return how many messages were lost after `deliver` had taken them."""
        return 0

    def describe(self, text: object) -> str:
        """Return a text as one line without passwords, for the log."""
        return redact(join_lines(text), self.secrets)


@dataclass
class DeliveryCounts:
    """How a sink's messages ended."""

    delivered: int = 0
    failed: int = 0
    dropped: int = 0  # the oldest of a full queue
    lost: int = 0  # not yet delivered when the stream ended

    @property
    def complete(self) -> bool:
        """Whether every message was delivered."""
        return not (self.failed or self.dropped or self.lost)

    def to_json(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


class Delivery(NamedTuple):
    """A message in a queue, with the picture it is delivered with."""

    message: Message
    rgb: RGB | None


class SinkWorker:
    """A thread that delivers messages to one sink, and the bounded queue before it.

    Attributes:
        counts: how the messages ended.
        reader_gone: the sink raised BrokenPipeError.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink, self.counts, self.reader_gone = sink, DeliveryCounts(), False
        self._failure_key = object()
        self._queue: deque[Delivery] = deque()
        self._changed = threading.Condition()
        self._finishing = self._delivering = False
        self._thread = threading.Thread(target=self._run, name=sink.name, daemon=True)
        self._thread.start()

    def put(self, message: Message, rgb: RGB | None, stop: threading.Event | None = None) -> None:
        """Queue a message if the sink accepts it. A full queue drops its oldest message.

        Args:
            stop: given if the source can wait. With a sink that has `backpressure`, a full queue
                is then waited for until `stop` is set.
        """
        if not self.sink.accepts(message):
            return
        picture = rgb if self.sink.needs_picture(message) else None
        with self._changed:
            if stop is not None and self.sink.backpressure:
                while self._is_full() and not (stop.is_set() or self.reader_gone or self.finished):
                    self._changed.wait(BACKPRESSURE_CHECK_INTERVAL_S)
            if self._is_full():
                self._queue.popleft()
                self.counts.dropped += 1
            self._queue.append(Delivery(message, picture))
            self._changed.notify_all()

    def finish(self) -> None:
        """Accept no more messages: deliver the queue, then close the sink."""
        with self._changed:
            self._finishing = True
            self._changed.notify_all()

    @property
    def finished(self) -> bool:
        """Whether the queue was delivered, as far as possible, and the sink is closed."""
        return not self._thread.is_alive()

    def give_up(self) -> None:
        """Make the sink stop retrying and waiting."""
        self.sink.closing.set()

    def close(self, deadline: float) -> None:
        """Give up and wait for the thread; count undelivered messages as lost.

        Args:
            deadline: moment of the monotonic clock after which the thread is left alone.
        """
        self.finish()
        self.give_up()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            self.counts.lost += len(self._queue) + self._delivering
            self._queue.clear()

    def _is_full(self) -> bool:
        return len(self._queue) >= self.sink.capacity

    def _run(self) -> None:
        try:
            self.sink.open()
        except Exception:  # a bug, or a sink of the user's own
            logger.error(
                "%s: cannot be opened; its messages are lost\n%s",
                self.sink.name,
                redact(traceback.format_exc().rstrip(), self.sink.secrets),
            )
            return
        while not self._is_over():
            with self._changed:
                if not (self._queue or self._finishing):
                    self._changed.wait(MAINTENANCE_INTERVAL_S)
                delivery = self._queue.popleft() if self._queue else None
                self._delivering = delivery is not None
            if delivery is None:
                self._maintain()
            else:
                self._deliver(delivery)
            with self._changed:
                self._delivering = False
                self._changed.notify_all()
        self._close_sink()

    def _is_over(self) -> bool:
        return self._finishing and (not self._queue or self.sink.closing.is_set())

    def _maintain(self) -> None:
        try:
            self.sink.maintain()
        except Exception as error:  # as in `_deliver`
            self._log_failure(error)

    def _deliver(self, delivery: Delivery) -> None:
        try:
            self.sink.deliver(delivery.message, delivery.rgb)
        except BrokenPipeError:
            self.reader_gone = True
            self.counts.failed += 1
        except Exception as error:  # anything a disk, a broker or a server may cause
            self.counts.failed += 1
            self._log_failure(error)
        else:
            self.counts.delivered += 1
            if self.counts.failed:
                self._log_recovery()

    def _close_sink(self) -> None:
        try:
            lost = self.sink.close()
            self.counts.lost += lost
            self.counts.delivered -= lost
        except Exception as error:
            logger.warning("%s: cannot be closed: %s", self.sink.name, self.sink.describe(error))

    def _log_failure(self, error: Exception) -> None:
        logger.warning(
            "%s: cannot deliver: %s",
            self.sink.name,
            self.sink.describe(error),
            extra={"failure": self._failure_key},
        )

    def _log_recovery(self) -> None:
        logger.warning(
            "%s: works again; %d messages failed",
            self.sink.name,
            self.counts.failed,
            extra={"recovery": self._failure_key},
        )
