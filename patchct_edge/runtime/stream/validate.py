"""What can be checked of a stream's settings before a camera is opened: every fault, together."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from patchct_edge.bundle import Bundle
from patchct_edge.bundle.bundle import find_enclosing_bundle
from patchct_edge.bundle.precisions import PRECISIONS
from patchct_edge.errors import Fault, FaultsError, UserError, did_you_mean, join_lines
from patchct_edge.runtime.engines.select import ENGINES
from patchct_edge.runtime.stream.parse import Location, describe_location, parse_settings
from patchct_edge.runtime.stream.redaction import find_secrets, redact
from patchct_edge.runtime.stream.settings import (
    CameraSettings,
    JSONLSettings,
    MQTTSettings,
    Roi,
    StreamSettings,
    VideoSettings,
    WebhookSettings,
)
from patchct_edge.runtime.stream.sinks.mqtt import parse_topic
from patchct_edge.runtime.stream.sources.address import parse_address
from patchct_edge.runtime.stream.sources.folder import require_images
from patchct_edge.runtime.stream.sources.open import parse_pattern, parse_size
from patchct_edge.runtime.stream.sources.video import require_pyav

KINDS_THAT_NEED_PYAV = frozenset({"file", "rtsp", "http", "v4l2", "csi", "gst"})


def validate(settings: StreamSettings) -> None:
    """Check cameras, sinks, paths, engine and the model's labels.

    Raises:
        UserError: the one fault.
        FaultsError: all faults together.
    """
    _raise_any(find_faults(settings))


def build_settings(
    values: Mapping[str, Any], describe: Callable[[Location], str] = describe_location
) -> StreamSettings:
    """Return the settings that plain values stand for.

    Args:
        values: the fields of `StreamSettings` as plain values.
        describe: returns how a fault names a setting.

    Raises:
        UserError: the one fault.
        FaultsError: all faults of form and meaning together.
    """
    faults: list[str] = []
    settings = parse_settings(values, faults, describe)
    if settings is not None:
        faults += find_faults(settings)
    _raise_any(faults)
    assert settings is not None
    return settings


def _raise_any(faults: Sequence[str]) -> None:
    if len(faults) == 1:
        raise UserError(faults[0])
    if faults:
        raise FaultsError("cannot run the stream", [Fault(None, None, text) for text in faults])


def find_faults(settings: StreamSettings) -> list[str]:
    """Return one sentence for each setting that does not fit the others, the files or the model."""
    return [
        *_camera_faults(settings),
        *_sink_faults(settings),
        *_path_faults(settings),
        *_engine_faults(settings),
        *_threshold_faults(settings),
    ]


def _camera_faults(settings: StreamSettings) -> Iterator[str]:
    if not settings.cameras:
        yield "there is no camera"
    for camera in settings.cameras:
        try:
            _check_camera(camera)
        except UserError as error:
            yield f"{camera.name}: {join_lines(error)}"
        if not camera.name.strip():
            yield f"{redact(camera.source)}: a camera needs a name"
    for name, count in Counter(camera.name for camera in settings.cameras).items():
        if count > 1:
            yield f"{count} cameras are named {name}"


def _check_camera(camera: CameraSettings) -> None:
    address = parse_address(camera.source)
    if address.kind == "folder":
        require_images(address.target)
    if address.kind == "pattern":
        parse_pattern(address.target)
    if camera.size is not None:
        parse_size(camera.size)
    if address.kind in KINDS_THAT_NEED_PYAV:
        require_pyav()
    if camera.roi is None:
        return
    x, y, width, height = camera.roi
    if not (min(x, y) >= 0 and min(width, height) > 0):
        raise UserError(
            "not a region of interest", got=_format_roi(camera.roi), expected="x,y,width,height"
        )
    if max(camera.roi) <= 1 and (x + width > 1 or y + height > 1):
        raise UserError(
            "the region of interest reaches beyond the frame", got=_format_roi(camera.roi)
        )


def _sink_faults(settings: StreamSettings) -> Iterator[str]:
    names = [camera.name for camera in settings.cameras]
    for sink in settings.sinks:
        match sink:
            case MQTTSettings(url=url) if not _is_url(url, "mqtt", "mqtts"):
                yield f"mqtt: got {redact(url, find_secrets(url))}, expected mqtt://HOST/TOPIC"
            case MQTTSettings(url=url) if "#" in url or set("+#") & set(parse_topic(url)):
                yield "mqtt: the topic must not contain + or #, which are MQTT wildcards"
            case WebhookSettings(url=url) if not _is_url(url, "http", "https"):
                shown_url = re.sub(r"(?<=[^:/])/.*", "/...", url)  # paths often hold a token
                yield f"webhook: got {redact(shown_url, find_secrets(url))}, expected http://..."
            case VideoSettings(path=path, camera=None) if len(names) > 1:
                yield f"video {path}: camera: missing, expected one of {', '.join(names)}"
            case VideoSettings(path=path, camera=str(name)) if name not in names:
                yield f"video {path}: there is no camera {name}, {did_you_mean(name, names)}"


def _path_faults(settings: StreamSettings) -> Iterator[str]:
    """Find files that two sinks would write or that a camera reads, and missing folders."""
    sources = [os.path.realpath(camera.source) for camera in settings.cameras]
    targets: list[str] = []
    for sink in settings.sinks:
        match sink:
            case JSONLSettings(path=str(path)) | VideoSettings(path=path):
                folder = Path(path).absolute().parent
                if not folder.is_dir():
                    yield f"{sink.kind}: no folder {folder} for {path}"
                bundle = find_enclosing_bundle(Path(path))
                if bundle is not None:
                    yield f"{sink.kind}: {path} is within the bundle {bundle}"
                elif sink.kind == "jsonl" and not _can_append_rows(Path(path)):
                    yield f"jsonl: {path} exists and does not hold JSON lines"
                if os.path.realpath(path) in sources:
                    yield f"{sink.kind}: {path} is a camera's source"
                targets.append(os.path.realpath(path))
    for path, count in Counter(targets).items():
        if count > 1:
            yield f"{count} sinks write {path}"


def _can_append_rows(path: Path) -> bool:
    """Whether a file is missing, empty or begins with a JSON object."""
    with suppress(OSError):  # one that may not be read
        if path.is_file():  # opening a pipe would wait for its writer
            with path.open("rb") as file:
                return file.read(1) in (b"", b"{")
    return True


def _engine_faults(settings: StreamSettings) -> Iterator[str]:
    if settings.engine is not None and settings.engine not in ENGINES:
        yield f"engine: got {settings.engine}, {did_you_mean(settings.engine, ENGINES)}"
    if settings.precision is not None and settings.precision not in PRECISIONS:
        yield f"precision: got {settings.precision}, {did_you_mean(settings.precision, PRECISIONS)}"


def _is_url(url: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")  # else connecting fails without any message
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _threshold_faults(settings: StreamSettings) -> Iterator[str]:
    try:
        labels = Bundle(settings.model).labels
    except UserError as error:
        yield join_lines(error)
        return
    for label, threshold in settings.thresholds.items():
        if label not in labels:
            yield f"thresholds: no label {label!r} in the model, {did_you_mean(label, labels)}"
        if threshold.off is not None and threshold.off > threshold.on:
            yield (
                f"thresholds: {label}: got on {threshold.on:g}, off {threshold.off:g}, "
                "expected off <= on"
            )


def _format_roi(roi: Roi) -> str:
    return ",".join(f"{number:g}" for number in roi)
