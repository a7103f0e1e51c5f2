"""A bounded, ordered map over threads: decodes for training, quantization and tagging.

Written by hand: `concurrent.futures` waits at exit for every thread, also for one that hangs in a
file, and cannot replace it; its `map` submits all items at once.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout  # the built-in from Python 3.11 on
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
GRACE_PERIOD_S = 1.0  # that a thread has to end


def count_workers() -> int:
    """Return how many threads to decode images with: one for each logical core."""
    return os.cpu_count() or 1


def map_in_order(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    workers: int,
    max_pending: int,
    timeout_s: float = math.inf,
    on_timeout: Callable[[T], R] | None = None,
) -> Generator[R, None, None]:
    """Yield `function(item)` in the order of `items`, computed by `workers` threads.

    Memory is bounded, and `items` may be endless. An exception of `function` is raised in its turn.
    Closing the iterator cancels the items that have not started.

    Args:
        max_pending: how many results may wait or be computed at once.
        timeout_s: seconds that one item may take. After that `on_timeout(item)` is yielded in its
            place, and a new thread replaces the one that hangs.
        on_timeout: required with a timeout.
    """
    pending: deque[_Task[T, R]] = deque()
    pool = _Pool(function, workers, timeout_s, on_timeout)
    try:
        for item in items:
            pending.append(pool.submit(item))
            if len(pending) >= max_pending:
                yield pool.result(pending.popleft())
        while pending:
            yield pool.result(pending.popleft())
    finally:
        for task in pending:
            task.future.cancel()
        pool.close()


@dataclass(eq=False)
class _Task(Generic[T, R]):
    item: T
    future: Future[R] = field(default_factory=Future)
    start_time: float = math.inf  # seconds of the monotonic clock
    worker: threading.Thread | None = None


class _Pool(Generic[T, R]):
    """Daemon threads that take tasks in order; one that exceeds the timeout is replaced."""

    def __init__(
        self,
        function: Callable[[T], R],
        workers: int,
        timeout_s: float,
        on_timeout: Callable[[T], R] | None,
    ) -> None:
        self._function, self._timeout_s, self._on_timeout = function, timeout_s, on_timeout
        self._tasks: SimpleQueue[_Task[T, R] | None] = SimpleQueue()
        self._threads: set[threading.Thread] = set()  # without those that were replaced
        for _ in range(workers):
            self._start_thread()

    def submit(self, item: T) -> _Task[T, R]:
        task: _Task[T, R] = _Task(item)
        self._tasks.put(task)
        return task

    def result(self, task: _Task[T, R]) -> R:
        """Wait for the result of a task, or take that of `on_timeout`."""
        while True:
            remaining = task.start_time + self._timeout_s - time.monotonic()
            wait = min(max(0, remaining), self._timeout_s, threading.TIMEOUT_MAX)
            try:
                return task.future.result(wait)
            except FutureTimeout:
                if task.future.done():  # by now, or `function` itself raised the exception
                    return task.future.result()
                if remaining > 0:
                    continue
                # Not at once: the whole process may have been stopped, and the thread with it.
                with suppress(FutureTimeout):
                    return task.future.result(GRACE_PERIOD_S)
                self._replace_thread(task.worker)
                assert self._on_timeout is not None
                return self._on_timeout(task.item)

    def close(self) -> None:
        """End the threads, and wait a moment for the tasks that have started."""
        self._tasks.put(None)
        deadline = time.monotonic() + GRACE_PERIOD_S
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="decode", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            self._threads.discard(thread)
            self.close()
            raise

    def _replace_thread(self, worker: threading.Thread | None) -> None:
        assert worker is not None  # the task has started
        self._threads.discard(worker)
        self._start_thread()

    def _work(self) -> None:
        thread = threading.current_thread()
        while (task := self._tasks.get()) is not None:
            if task.future.set_running_or_notify_cancel():
                task.worker, task.start_time = thread, time.monotonic()
                try:
                    task.future.set_result(self._function(task.item))
                except BaseException as error:
                    task.future.set_exception(error)
            del task  # or this thread would keep the result in memory while it waits
            if thread not in self._threads:
                return
        self._tasks.put(None)  # for the next thread
