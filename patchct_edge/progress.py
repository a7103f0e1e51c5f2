"""How library code reports progress: one protocol, drawn by whoever calls."""

from __future__ import annotations

from typing import Protocol


class Advance(Protocol):
    """Reports how far a stage has come."""

    def __call__(self, done: int, detail: str = "") -> None:
        """Report that `done` steps of the stage are finished; `detail` is shown beside it."""


class Progress(Protocol):
    """Shows the stages of a task, one after the other."""

    def stage(self, name: str, total: int) -> Advance:
        """Begin a stage of `total` steps; the stage before it is over."""


def ignore_progress(done: int, detail: str = "") -> None:
    """Advance nothing: the default where no caller wants to see progress."""


class NoProgress:
    """Shows nothing."""

    def stage(self, name: str, total: int) -> Advance:
        """Return an `Advance` that does nothing."""
        return ignore_progress


NO_PROGRESS = NoProgress()  # the default of functions with several stages
