"""A bounded, ordered map over threads: decoding for training, calibration and tagging alike."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(
    function: Callable[[T], R], items: Iterable[T], *, workers: int, ahead: int
) -> Iterator[R]:
    """Yield `function(item)` in the order of `items`, computed by `workers` threads.

    At most `ahead` results wait or are being computed, so memory is bounded and an endless `items`
    is fine. An exception of `function` is raised when its turn comes. Closing the iterator cancels
    what has not started.
    """
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
