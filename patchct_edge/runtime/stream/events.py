"""Messages of a stream: a row for each frame, and events of labels and cameras.

As JSON, each has a "type": "frame", "label" or "camera".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal

from patchct_edge.bundle import Tag
from patchct_edge.runtime.tagging.writers import SCORE_DIGITS

CameraState = Literal["connected", "lost", "ended"]
ChangeReason = Literal["score", "lost"]
POSITION_DIGITS = 3  # a position is in seconds, to the millisecond


@dataclass(frozen=True)
class FrameRow:
    """The tags of one frame, or why there are none.

    Args:
        frame: number of the frame in its camera's stream, from 1; dropped frames leave gaps.
        wall_time: when it was captured, in seconds since 1970.
        position: seconds on the stream's own clock since its first frame.
        latency: seconds from capture to tags.
        error: type and message of what went wrong.
    """

    camera: str
    frame: int
    wall_time: float
    position: float
    latency: float
    tags: Sequence[Tag] = ()
    error: tuple[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return `{"type": "frame", "camera", "frame", "time", ...}` with tags or the error."""
        row: dict[str, Any] = {
            "type": "frame",
            "camera": self.camera,
            "frame": self.frame,
            "time": timestamp(self.wall_time),
            "position": round(self.position, POSITION_DIGITS),
            "latency_ms": round(self.latency * 1000, 1),
        }
        if self.error is not None:
            kind, message = self.error
            return {**row, "error": {"type": kind, "message": message}}
        tags = [{"label": tag.label, "score": round(tag.score, SCORE_DIGITS)} for tag in self.tags]
        return {**row, "tags": tags}


@dataclass(frozen=True)
class LabelEvent:
    """A label turned on or off.

    Args:
        score: the smoothed score, 0..1.
        wall_time: when the change was decided, in seconds since 1970.
        since: when the score passed the threshold, in seconds since 1970.
        reason: "score", or "lost": the camera is gone and its labels are no longer known.
        position: see `FrameRow`; None where no frame decided.
    """

    camera: str
    label: str
    on: bool
    score: float
    wall_time: float
    since: float
    reason: ChangeReason = "score"
    position: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return `{"type": "label", "camera", "label", "state": "on" or "off", ...}`."""
        event = {
            "type": "label",
            "camera": self.camera,
            "label": self.label,
            "state": "on" if self.on else "off",
            "score": round(self.score, SCORE_DIGITS),
            "time": timestamp(self.wall_time),
            "since": timestamp(self.since),
            "reason": self.reason,
        }
        if self.position is None:
            return event
        return {**event, "position": round(self.position, POSITION_DIGITS)}


@dataclass(frozen=True)
class CameraEvent:
    """A camera was connected, was lost or has ended.

    Args:
        wall_time: when that happened, in seconds since 1970.
        reason: why, without passwords.
        after: number of the frame before it.
    """

    camera: str
    state: CameraState
    wall_time: float
    reason: str | None = None
    after: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return `{"type": "camera", "camera", "state", "time"}`, and "reason" if there is one."""
        event = {
            "type": "camera",
            "camera": self.camera,
            "state": self.state,
            "time": timestamp(self.wall_time),
        }
        return event if self.reason is None else {**event, "reason": self.reason}


Message = FrameRow | LabelEvent | CameraEvent


def timestamp(wall_time: float) -> str:
    """Format seconds since 1970 as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(wall_time, timezone.utc).isoformat(timespec="milliseconds")
