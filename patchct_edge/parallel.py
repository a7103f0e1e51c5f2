"""A bounded, ordered map over threads: decoding for training, calibration and tagging alike.

Threads of its own rather than an executor's: those are waited for at exit, whatever they are stuck
in.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet  # the built-in one from Python 3.11 on
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
GRACE = 1.0  # seconds that a thread has to end


def ordered_map(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    workers: int,
    ahead: int,
    limit: float = math.inf,
    late: Callable[[T], R] | None = None,
) -> Iterator[R]:
    """Yield `function(item)` in the order of `items`, computed by `workers` threads.

    At most `ahead` results wait or are being computed, so memory is bounded and an endless `items`
    is fine. An exception of `function` is raised when its turn comes. Closing the iterator cancels
    what has not started.

    Args:
        limit: seconds that one item may take. After that `late(item)` is yielded in its place,
            its thread is left to itself, and another works in its stead.
        late: needed with a limit.
    """
    waiting: deque[_Task[T, R]] = deque()
    pool = _Pool(function, workers, limit, late)
    try:
        for item in items:
            waiting.append(pool.submit(item))
            if len(waiting) >= ahead:
                yield pool.result(waiting.popleft())
        while waiting:
            yield pool.result(waiting.popleft())
    finally:
        for task in waiting:
            task.future.cancel()
        pool.close()


@dataclass(eq=False)
class _Task(Generic[T, R]):
    item: T
    future: Future[R] = field(default_factory=Future)
    began: float = math.inf  # seconds of the monotonic clock
    worker: threading.Thread | None = None


class _Pool(Generic[T, R]):
    """Daemon threads that take tasks in order until they are told to end, or are given up."""

    def __init__(
        self,
        function: Callable[[T], R],
        workers: int,
        limit: float,
        late: Callable[[T], R] | None,
    ) -> None:
        self._function, self._limit, self._late = function, limit, late
        self._tasks: SimpleQueue[_Task[T, R] | None] = SimpleQueue()
        self._threads: set[threading.Thread] = set()  # those that are not given up
        for _ in range(workers):
            self._start()

    def submit(self, item: T) -> _Task[T, R]:
        task: _Task[T, R] = _Task(item)
        self._tasks.put(task)
        return task

    def result(self, task: _Task[T, R]) -> R:
        """Wait for a task, or give it up."""
        while True:
            left = task.began + self._limit - time.monotonic()
            try:
                return task.future.result(min(max(0, left), self._limit, threading.TIMEOUT_MAX))
            except NotYet:
                if task.future.done():  # by now, or the function itself raised it
                    return task.future.result()
                if left > 0:
                    continue
                # Not at once: this process may have been stopped, and the thread with it.
                with suppress(NotYet):
                    return task.future.result(GRACE)
                self._replace(task.worker)
                assert self._late is not None
                return self._late(task.item)

    def close(self) -> None:
        """End the threads, and wait a moment for what they have begun."""
        self._tasks.put(None)
        deadline = time.monotonic() + GRACE
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="decode", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            self._threads.discard(thread)
            self.close()
            raise

    def _replace(self, worker: threading.Thread | None) -> None:
        assert worker is not None  # a task that has begun
        self._threads.discard(worker)
        self._start()

    def _work(self) -> None:
        me = threading.current_thread()
        while (task := self._tasks.get()) is not None:
            if task.future.set_running_or_notify_cancel():
                task.worker, task.began = me, time.monotonic()
                try:
                    task.future.set_result(self._function(task.item))
                except BaseException as error:
                    task.future.set_exception(error)
            del task  # its result is the reader's alone
            if me not in self._threads:
                return
        self._tasks.put(None)  # for the next thread
