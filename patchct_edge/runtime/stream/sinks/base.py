"""What takes the messages of a stream, and the bounded queue before each: no camera ever waits."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass

from patchct_edge.arrays import RGB
from patchct_edge.errors import on_one_line
from patchct_edge.runtime.stream.events import Message
from patchct_edge.runtime.stream.sources.address import redact
from patchct_edge.runtime.stream.trouble import CALM, Trouble

IDLE = 0.2  # seconds after which an outlet looks around even where no message has come


class Sink(ABC):
    """Somewhere that messages go. One thread calls `open`, `deliver`, `idle` and `close`.

    Attributes:
        name: in messages, without a password.
        secrets: passwords that no message may show.
        capacity: messages that may wait for it.
        patient: what is read from a file waits for it; a camera never does.
        closing: set when `deliver` and `close` shall give up what they retry or wait for.
        say: tells a person something, without a password.
    """

    name: str
    secrets: tuple[str, ...] = ()
    capacity: int = 1000
    patient: bool = False

    def __init__(self) -> None:
        self.closing = threading.Event()
        self.say: Callable[[str], None] = lambda text: None

    def open(self) -> None:
        """Begin, before the first message; what can be wrong in the settings is found earlier."""
        return

    @abstractmethod
    def wants(self, message: Message) -> bool:
        """Whether a message is for this outlet."""

    def wants_picture(self, message: Message) -> bool:
        """Whether the frame's picture goes with a message that it wants."""
        return False

    @abstractmethod
    def deliver(self, message: Message, rgb: RGB | None) -> None:
        """Deliver one message; any exception means that it was not."""

    def idle(self) -> None:
        """Look around, where no message has come for `IDLE` seconds."""
        return

    def close(self) -> int:
        """Flush and free; return how many messages are lost that `deliver` had taken."""
        return 0


@dataclass
class DeliveryCounts:
    """What became of an outlet's messages."""

    delivered: int = 0
    failed: int = 0
    dropped: int = 0  # the queue was full: the oldest went
    lost: int = 0  # left when the stream ended

    @property
    def complete(self) -> bool:
        return not (self.failed or self.dropped or self.lost)

    def to_json(self) -> dict[str, int]:
        return asdict(self)


class SinkWorker:
    """A thread that brings messages to one outlet, and the queue before it.

    Args:
        note: told when deliveries begin to fail, and when they work again.
        calm: seconds, as of `Trouble`.

    Attributes:
        gone: nobody reads the other end any more.
    """

    def __init__(self, outlet: Sink, note: Callable[[str], None], *, calm: float = CALM) -> None:
        self.outlet, self.counts, self.gone = outlet, DeliveryCounts(), False
        self._note = note
        self._trouble = Trouble(self._say, calm)
        outlet.say = self._say
        self._waiting: deque[tuple[Message, RGB | None]] = deque()
        self._changed = threading.Condition()
        self._closed = self._busy = False
        self._thread = threading.Thread(target=self._run, name=outlet.name, daemon=True)
        self._thread.start()

    def put(self, message: Message, rgb: RGB | None, stop: threading.Event | None = None) -> None:
        """Leave a message, where the outlet wants it. A full queue loses its oldest one.

        Args:
            stop: given where the source can wait: then a patient outlet's queue is waited for
                until `stop` is set.
        """
        if not self.outlet.wants(message):
            return
        picture = rgb if self.outlet.wants_picture(message) else None
        with self._changed:
            if stop is not None and self.outlet.patient:
                while self._full() and not (stop.is_set() or self.gone):
                    self._changed.wait(0.1)
            if self._full():
                self._waiting.popleft()
                self.counts.dropped += 1
            self._waiting.append((message, picture))
            self._changed.notify_all()

    def finish(self) -> None:
        """Take no more messages: what waits is delivered, then the outlet is closed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def finished(self) -> bool:
        """Whether all is delivered that can be, and the outlet closed."""
        return not self._thread.is_alive()

    def give_up(self) -> None:
        """Tell the outlet to end what it retries or waits for."""
        self.outlet.closing.set()

    def close(self, until: float) -> None:
        """Give up, wait for the outlet until a moment of the monotonic clock; the rest is lost."""
        self.finish()
        self.give_up()
        self._thread.join(max(0.0, until - time.monotonic()))
        with self._changed:
            self.counts.lost += len(self._waiting) + self._busy
            self._waiting.clear()

    def _full(self) -> bool:
        return len(self._waiting) >= self.outlet.capacity

    def _run(self) -> None:
        self.outlet.open()
        while not self._over():
            with self._changed:
                if not (self._waiting or self._closed):
                    self._changed.wait(IDLE)
                found = self._waiting.popleft() if self._waiting else None
                self._busy = found is not None
            if found is None:
                self._idle()
            else:
                self._deliver(*found)
            with self._changed:
                self._busy = False
                self._changed.notify_all()
        try:
            lost = self.outlet.close()
            self.counts.lost += lost
            self.counts.delivered -= lost
        except Exception as error:
            self._say(f"{self.outlet.name} did not close: {error}")

    def _over(self) -> bool:
        return self._closed and (not self._waiting or self.outlet.closing.is_set())

    def _idle(self) -> None:
        try:
            self.outlet.idle()
        except Exception as error:  # as below
            self._trouble.failed(f"{self.outlet.name} fails: {error}")

    def _deliver(self, message: Message, rgb: RGB | None) -> None:
        try:
            self.outlet.deliver(message, rgb)
        except BrokenPipeError:
            self.gone = True
            self.counts.failed += 1
        except Exception as error:  # whatever a disk, a broker or a server may do
            self.counts.failed += 1
            self._trouble.failed(f"{self.outlet.name} fails: {error}")
        else:
            self.counts.delivered += 1
            self._trouble.worked(f"{self.outlet.name} works again; {self.counts.failed} failed")

    def _say(self, text: str) -> None:
        self._note(redact(on_one_line(text), self.outlet.secrets))
