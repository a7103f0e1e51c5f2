"""What can be known of a stream's settings before a camera is opened: every fault, together."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from patchct_edge.bundle import Bundle
from patchct_edge.bundle.bundle import enclosing_bundle
from patchct_edge.bundle.precisions import PRECISIONS
from patchct_edge.errors import Fault, FaultsError, UserError, did_you_mean, on_one_line
from patchct_edge.runtime.engines.select import ENGINES
from patchct_edge.runtime.stream import settings
from patchct_edge.runtime.stream.sources.address import (
    find_secrets,
    mqtt_topic,
    parse_address,
    redact,
)
from patchct_edge.runtime.stream.sources.folder import check_folder
from patchct_edge.runtime.stream.sources.open import parse_pattern, parse_size
from patchct_edge.runtime.stream.sources.video import require_library

VIDEO_LIBRARY = frozenset({"file", "rtsp", "http", "v4l2", "csi", "gst"})


def validate(given: settings.Stream) -> None:
    """Look at cameras, outputs, numbers and the model's labels.

    Raises:
        FaultsError: all that does not fit, together.
    """
    faults = faults_of(given)
    if len(faults) == 1:
        raise UserError(faults[0])
    if faults:
        raise FaultsError("the stream cannot be run", [Fault("settings", None, f) for f in faults])


def faults_of(given: settings.Stream) -> list[str]:
    """Return all that does not fit."""
    return [
        *_numbers(given),
        *_cameras(given),
        *_outputs(given),
        *_paths(given),
        *_choice(given),
        *_thresholds(given),
    ]


def _numbers(given: settings.Stream) -> Iterator[str]:
    positive: list[tuple[str, float | None]] = [("stall", given.stall)]
    others: list[tuple[str, float]] = [("smooth", given.smooth), ("hold", given.hold)]
    for camera in given.cameras:
        positive += [(f"{camera.name}: fps", camera.fps), (f"{camera.name}: rate", camera.rate)]
    for output in given.outputs:
        match output:
            case settings.JSONL():
                positive.append(("jsonl: max_mb", output.max_mb))
                others.append(("jsonl: keep", output.keep))
            case settings.Snapshots():
                positive.append(("snapshots: keep", output.keep))
            case settings.Video():
                positive.append(("video: fps", output.fps))
    for name, value in positive:
        if value is not None and not 0 < value < float("inf"):
            yield f"{name}: got {value:g}, expected a number above 0"
    for name, value in others:
        if not 0 <= value < float("inf"):
            yield f"{name}: got {value:g}, expected 0 or more"


def _cameras(given: settings.Stream) -> Iterator[str]:
    if not given.cameras:
        yield "no camera"
    for camera in given.cameras:
        try:
            _check_camera(camera)
        except UserError as error:
            yield f"{camera.name}: {on_one_line(error)}"
        if not camera.name.strip():
            yield f"{redact(camera.source)}: a camera needs a name"
    for name, count in Counter(camera.name for camera in given.cameras).items():
        if count > 1:
            yield f"{count} cameras named {name}"


def _check_camera(camera: settings.Camera) -> None:
    address = parse_address(camera.source)
    if address.kind == "folder":
        check_folder(address.target)
    if address.kind == "pattern":
        parse_pattern(address.target)
    if camera.size is not None:
        parse_size(camera.size)
    if address.kind in VIDEO_LIBRARY:
        require_library()
    if camera.roi is None:
        return
    x, y, width, height = camera.roi
    if not (min(x, y) >= 0 and min(width, height) > 0):
        raise UserError(
            "no region of interest", got=_listed(camera.roi), expected="x,y,width,height"
        )
    if max(camera.roi) <= 1 and (x + width > 1 or y + height > 1):
        raise UserError("the region of interest reaches beyond the frame", got=_listed(camera.roi))


def _outputs(given: settings.Stream) -> Iterator[str]:
    names = [camera.name for camera in given.cameras]
    for output in given.outputs:
        match output:
            case settings.MQTT(url=url) if not _is_url(url, "mqtt", "mqtts"):
                yield f"mqtt: got {redact(url, find_secrets(url))}, expected mqtt://HOST/TOPIC"
            case settings.MQTT(url=url) if "#" in url or set("+#") & set(mqtt_topic(url)):
                yield "mqtt: a topic without + and # is expected: they stand for others"
            case settings.Webhook(url=url) if not _is_url(url, "http", "https"):
                shown = re.sub(r"(?<=[^:/])/.*", "/...", url)  # in the path is many a token
                yield f"webhook: got {redact(shown, find_secrets(url))}, expected http://..."
            case settings.Video(path=path, camera=None) if len(names) > 1:
                yield f"video {path}: which camera? one of {', '.join(names)}"
            case settings.Video(path=path, camera=str(name)) if name not in names:
                yield f"video {path}: no camera {name}, {did_you_mean(name, names)}"


def _paths(given: settings.Stream) -> Iterator[str]:
    """Look for files that two would write, or that are read, and for folders that are not there."""
    sources = [os.path.realpath(camera.source) for camera in given.cameras]
    written: list[str] = []
    for output in given.outputs:
        match output:
            case settings.JSONL(path=str(path)) | settings.Video(path=path):
                folder = Path(path).absolute().parent
                if not folder.is_dir():
                    yield f"{output.kind}: no folder {folder} for {path}"
                model = enclosing_bundle(Path(path))
                if model is not None:
                    yield f"{output.kind}: {path} is within the model {model}"
                elif output.kind == "jsonl" and not _may_be_continued(Path(path)):
                    yield f"jsonl: {path} is there and holds no JSON lines"
                if os.path.realpath(path) in sources:
                    yield f"{output.kind}: {path} is a camera's source"
                written.append(os.path.realpath(path))
    for path, count in Counter(written).items():
        if count > 1:
            yield f"{count} outputs write {path}"


def _may_be_continued(path: Path) -> bool:
    """Whether rows may follow what a file holds already: nothing, or rows."""
    with suppress(OSError):  # one that may not be read
        if path.is_file():  # a pipe would be waited for
            with path.open("rb") as file:
                return file.read(1) in (b"", b"{")
    return True


def _choice(given: settings.Stream) -> Iterator[str]:
    if given.engine is not None and given.engine not in ENGINES:
        yield f"engine: got {given.engine}, {did_you_mean(given.engine, ENGINES)}"
    if given.precision is not None and given.precision not in PRECISIONS:
        yield f"precision: got {given.precision}, {did_you_mean(given.precision, PRECISIONS)}"


def _is_url(url: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")  # else no connection is tried, and nothing told
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _thresholds(given: settings.Stream) -> Iterator[str]:
    try:
        known = Bundle(given.model).labels
    except UserError as error:
        yield on_one_line(error)
        return
    for label, threshold in given.thresholds.items():
        if label not in known:
            yield f"thresholds: no label {label!r} in the model, {did_you_mean(label, known)}"
        off = threshold.on if threshold.off is None else threshold.off
        if not 0 <= off <= threshold.on <= 1:
            yield (
                f"thresholds: {label}: got on {threshold.on:g}, off {off:g}, "
                "expected 0 <= off <= on <= 1"
            )


def _listed(numbers: settings.Roi) -> str:
    return ",".join(f"{number:g}" for number in numbers)
