"""The settings of a stream: cameras, thresholds and sinks, from the command line or a TOML file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, get_args

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from patchct_edge.runtime.stream import defaults

Roi = tuple[float, float, float, float]


class _Settings(BaseModel):
    """Settings that cannot be changed; unknown names, infinity and NaN are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CameraSettings(_Settings):
    """One source of frames."""

    source: str = Field(
        description="Camera, URL, video file, folder of images, pipeline or test://pattern."
    )
    name: str = Field(
        default=defaults.CAMERA_NAME,
        description="Name in rows and events; each camera needs its own.",
    )
    max_fps: float | None = Field(
        default=None, gt=0, description="Frames per second to tag at most; all frames by default."
    )
    roi: Roi | None = Field(
        default=None,
        description="Region to tag: x, y, width, height. Fractions of the frame if none is above "
        "1, else pixels; the whole frame by default.",
    )
    transport: Literal["tcp", "udp"] = Field(
        default=defaults.RTSP_TRANSPORT, description="Transport of an RTSP stream."
    )
    size: str | None = Field(
        default=None, description='Frame size to request from a camera, such as "1280x720".'
    )
    capture_fps: float | None = Field(
        default=None,
        gt=0,
        description="Frames per second to request from a camera; images per second of a folder.",
    )
    pixel_format: str | None = Field(
        default=None,
        description='Format to request from a V4L2 camera, such as "mjpeg" or "yuyv422".',
    )
    loop: bool = Field(default=False, description="Start a file or folder again when it ends.")
    realtime: bool = Field(
        default=False, description="Play a file at its own speed and drop frames as a camera does."
    )


class ThresholdSettings(_Settings):
    """Scores at which one label turns on and off, in place of its calibrated threshold."""

    on: float = Field(ge=0, le=1, description="Score at which the label turns on.")
    off: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Score below which the label turns off, at most `on`; "
        f"{defaults.OFF_THRESHOLD_FACTOR:g} times `on` by default.",
    )


class JSONLSettings(_Settings):
    """Rows and events as JSON lines."""

    kind: Literal["jsonl"] = "jsonl"
    path: str | None = Field(
        default=None, description="File to append to; standard output by default."
    )
    events_only: bool = Field(default=False, description="Write events, but no rows of frames.")
    max_mb: float = Field(
        default=defaults.JSONL_MAX_MB,
        gt=0,
        description="Megabytes after which the file is rotated.",
    )
    keep_files: int = Field(
        default=defaults.JSONL_KEEP_FILES,
        ge=0,
        description="Rotated files to keep beside the current one.",
    )


class MQTTSettings(_Settings):
    """Camera states, tags and events as topics of an MQTT broker."""

    kind: Literal["mqtt"] = "mqtt"
    url: str = Field(description="Broker and topic: mqtt://USER:PASSWORD@HOST:PORT/TOPIC.")


class WebhookSettings(_Settings):
    """Every event as JSON in a POST request."""

    kind: Literal["webhook"] = "webhook"
    url: str = Field(description="Address to post to: http://... or https://...")


class SnapshotsSettings(_Settings):
    """A JPEG for every label that turns on."""

    kind: Literal["snapshots"] = "snapshots"
    folder: str = Field(description="Folder of the JPEG files; created if missing.")
    keep_files: int = Field(
        default=defaults.SNAPSHOTS_KEEP_FILES,
        gt=0,
        description="Files to keep; the oldest beyond that are deleted.",
    )


class VideoSettings(_Settings):
    """A video file of one camera with its tags drawn in."""

    kind: Literal["video"] = "video"
    path: str = Field(description="Video file, .mp4 or .mkv.")
    camera: str | None = Field(
        default=None, description="Name of the camera; may be omitted if there is only one."
    )
    fps: float = Field(default=defaults.VIDEO_FPS, gt=0, description="Frame rate of the file.")


SinkSettings = JSONLSettings | MQTTSettings | WebhookSettings | SnapshotsSettings | VideoSettings
SINK_MODELS: dict[str, type[BaseModel]] = {
    model.model_fields["kind"].default: model for model in get_args(SinkSettings)
}


class StreamSettings(_Settings):
    """All settings of a stream."""

    model: str = Field(description="The bundle to run.")
    engine: str | None = Field(
        default=None, description="Engine to run; the fastest that fits by default."
    )
    precision: str | None = Field(
        default=None, description="Precision to run; the fastest that fits by default."
    )
    uncalibrated: bool = Field(
        default=False, description="Ignore calibration: raw scores, threshold 0.5."
    )
    smoothing: float = Field(
        default=defaults.SMOOTHING_S,
        ge=0,
        description="Time constant of the exponential smoothing of scores in seconds; 0 for none.",
    )
    min_duration: float = Field(
        default=defaults.MIN_DURATION_S,
        ge=0,
        description="Seconds for which the score must stay beyond a threshold before a label turns "
        "on or off.",
    )
    stall_timeout: float = Field(
        default=defaults.STALL_TIMEOUT_S,
        gt=0,
        description="Seconds without a new picture after which a camera is reopened and its labels "
        "are turned off.",
    )
    cameras: tuple[CameraSettings, ...]
    sinks: tuple[Annotated[SinkSettings, Field(discriminator="kind")], ...] = (JSONLSettings(),)
    thresholds: dict[str, ThresholdSettings] = Field(default_factory=dict)


class SettingRow(NamedTuple):
    """One setting as a row of the documentation.

    Attributes:
        table: TOML table that it stands in, such as `[[camera]]`; empty at the top of the file.
        default: as TOML would write it; "required" or "none" where there is no value.
        range: values that it may take, or its type where any value will do.
    """

    table: str
    name: str
    default: str
    range: str
    meaning: str


TABLES = ("cameras", "sinks", "thresholds")  # fields of `StreamSettings` that are tables in TOML


def list_settings() -> list[SettingRow]:
    """Return every setting of a TOML file in the order of the documentation."""
    sinks = [
        row
        for kind, model in SINK_MODELS.items()
        for row in _rows(f'[[sink]] kind = "{kind}"', model)
        if row.name != "kind"
    ]
    return [
        *_rows("", StreamSettings),
        *_rows("[[camera]]", CameraSettings),
        *sinks,
        *_rows("[thresholds] LABEL", ThresholdSettings),
    ]


def _rows(table: str, model: type[BaseModel]) -> Iterator[SettingRow]:
    for name, field in model.model_fields.items():
        if model is StreamSettings and name in TABLES:
            continue
        yield SettingRow(table, name, _default(field), _range(field), field.description or "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def _range(field: FieldInfo) -> str:
    """Return the bounds of a number, the choices of a literal, or the type."""
    kinds = [
        kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not type(None)
    ]
    bounds: list[str] = []
    for limit in field.metadata:
        match limit:
            case Gt(gt=bound):
                bounds.append(f"> {bound}")
            case Ge(ge=bound):
                bounds.append(f">= {bound}")
            case Le(le=bound):
                bounds.append(f"<= {bound}")
    if bounds:
        return ", ".join(bounds)
    words: dict[Any, str] = {str: "text", bool: "true or false", Roi: "4 numbers"}
    return " or ".join(words.get(kind, f'"{kind}"') for kind in kinds)
