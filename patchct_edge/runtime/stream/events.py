"""What a stream tells: a row for every tagged frame, and events of labels and cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal

from patchct_edge.bundle import Tag
from patchct_edge.runtime.stream.settings import Reason
from patchct_edge.runtime.tagging.writers import DIGITS

State = Literal["connected", "lost", "ended"]
MILLISECONDS = 3  # digits of a second, of a position


@dataclass(frozen=True)
class FrameRow:
    """The tags of one frame, or why there are none.

    Args:
        frame: number of the frame in its camera's stream, from 1; drops leave gaps.
        wall: when it was captured, in seconds since 1970.
        position: seconds on the stream's own clock since its first frame.
        latency: seconds from capture to tags.
    """

    camera: str
    frame: int
    wall: float
    position: float
    latency: float
    tags: Sequence[Tag] = ()
    error: tuple[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "camera": self.camera,
            "frame": self.frame,
            "time": timestamp(self.wall),
            "position": round(self.position, MILLISECONDS),
            "latency_ms": round(self.latency * 1000, 1),
        }
        if self.error is not None:
            kind, message = self.error
            return {**found, "error": {"type": kind, "message": message}}
        tags = [{"label": tag.label, "score": round(tag.score, DIGITS)} for tag in self.tags]
        return {**found, "tags": tags}


@dataclass(frozen=True)
class LabelEvent:
    """A label turned on or off.

    Args:
        since: seconds since 1970 from which on the scores said so; `wall` is when it was decided.
        position: as of `FrameRow`; None where no frame decided.
        reason: "score", or "lost": the camera is gone and nothing is known any more.
    """

    camera: str
    label: str
    on: bool
    score: float
    wall: float
    since: float
    reason: Reason = "score"
    position: float | None = None

    def to_json(self) -> dict[str, Any]:
        found = {
            "camera": self.camera,
            "event": "label on" if self.on else "label off",
            "label": self.label,
            "score": round(self.score, DIGITS),
            "time": timestamp(self.wall),
            "since": timestamp(self.since),
            "reason": self.reason,
        }
        if self.position is None:
            return found
        return {**found, "position": round(self.position, MILLISECONDS)}


@dataclass(frozen=True)
class CameraEvent:
    """A camera delivers, was lost, or has ended; `reason` says why, without passwords.

    Args:
        after: number of the frame before it.
    """

    camera: str
    state: State
    wall: float
    reason: str | None = None
    after: int = 0

    def to_json(self) -> dict[str, Any]:
        found = {
            "camera": self.camera,
            "event": f"camera {self.state}",
            "time": timestamp(self.wall),
        }
        return found if self.reason is None else {**found, "reason": self.reason}


Message = FrameRow | LabelEvent | CameraEvent


def timestamp(wall: float) -> str:
    """Return seconds since 1970 as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(wall, timezone.utc).isoformat(timespec="milliseconds")
