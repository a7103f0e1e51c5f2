"""The settings of a stream: cameras, thresholds, outputs. From the command line or a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Roi = tuple[float, float, float, float]
Reason = Literal["score", "lost"]  # of a label that turns on or off


class Strict:
    """Settings of which a file may name no others."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


@dataclass(frozen=True)
class Camera(Strict):
    """One source of frames.

    Args:
        source: as of `parse_address`.
        name: in rows and events.
        fps: frames a second that are tagged at most; all by default.
        roi: x, y, width, height of the part to look at: fractions of the frame where none is above
            1, else pixels.
        transport: of RTSP.
        size: such as "1280x720", asked of a camera.
        rate: frames a second, asked of a camera; those of a folder.
        pixel_format: asked of a V4L2 camera, such as "mjpeg" or "yuyv422".
        loop: a file or folder begins again at its end.
        realtime: a file is played at its own speed, and frames are dropped as those of a camera.
    """

    source: str
    name: str = "camera"
    fps: float | None = None
    roi: Roi | None = None
    transport: Literal["tcp", "udp"] = "tcp"
    size: str | None = None
    rate: float | None = None
    pixel_format: str | None = None
    loop: bool = False
    realtime: bool = False


@dataclass(frozen=True)
class Threshold(Strict):
    """Where a label turns on, and where off; `off` is 0.8 times `on` by default."""

    on: float
    off: float | None = None


@dataclass(frozen=True)
class JSONL(Strict):
    """Rows and events as JSON lines.

    Args:
        path: a file; standard output by default.
        events_only: no rows of frames.
        max_mb: megabytes of a file, after which a new one is begun.
        keep: full files that are kept besides.
    """

    path: str | None = None
    events_only: bool = False
    max_mb: float = 100.0
    keep: int = 5
    kind: Literal["jsonl"] = "jsonl"


@dataclass(frozen=True)
class MQTT(Strict):
    """Topics `…/status` and `…/CAMERA/{status,tags,event}` of a broker: mqtt://USER:PW@HOST/TOPIC."""

    url: str
    kind: Literal["mqtt"] = "mqtt"


@dataclass(frozen=True)
class Webhook(Strict):
    """Every event as JSON in a POST."""

    url: str
    kind: Literal["webhook"] = "webhook"


@dataclass(frozen=True)
class Snapshots(Strict):
    """A JPEG in a folder for every label that turns on; the oldest beyond `keep` are deleted."""

    folder: str
    keep: int = 1000
    kind: Literal["snapshots"] = "snapshots"


@dataclass(frozen=True)
class Video(Strict):
    """A video file of one camera with its tags drawn in; .mp4 or .mkv."""

    path: str
    camera: str | None = None
    fps: float = 10.0
    kind: Literal["video"] = "video"


Output = JSONL | MQTT | Webhook | Snapshots | Video


@dataclass(frozen=True)
class Stream(Strict):
    """All of it.

    Args:
        model: the bundle.
        engine, precision: the fastest that fits by default.
        uncalibrated: every threshold 0.5, scores as before `patchct calibrate`.
        smooth: time constant of the smoothing of scores, in seconds.
        hold: seconds for which a score must ask for a change before it is made.
        stall: seconds without a frame, or with the same one, after which a camera is opened again.
        thresholds: of single labels, in place of the calibrated ones.
    """

    model: str
    cameras: tuple[Camera, ...]
    outputs: tuple[Output, ...] = (JSONL(),)
    engine: str | None = None
    precision: str | None = None
    uncalibrated: bool = False
    smooth: float = 0.5
    hold: float = 0.5
    stall: float = 10.0
    thresholds: dict[str, Threshold] = field(default_factory=dict)
