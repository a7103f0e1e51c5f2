"""A stream's settings as a TOML file: strict, all faults together, `${NAME}` from the environment.

model = "x.patchct"

[[camera]]
name = "door"
source = "rtsp://user:${DOOR_PASSWORD}@10.0.0.5/stream"

[[output]]
kind = "mqtt"
url = "mqtt://broker/house"

[thresholds]
dog = 0.7
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from patchct_edge.errors import Fault, FaultsError, UserError, did_you_mean
from patchct_edge.runtime.stream import settings
from patchct_edge.runtime.stream.sources.address import is_path, redact
from patchct_edge.runtime.stream.validate import faults_of

T = TypeVar("T")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
OUTPUTS: dict[str, type[settings.Output]] = {
    "jsonl": settings.JSONL,
    "mqtt": settings.MQTT,
    "webhook": settings.Webhook,
    "snapshots": settings.Snapshots,
    "video": settings.Video,
}
STAND_IN = "test://pattern"
RENAMED = {"camera": "cameras", "output": "outputs"}  # as TOML's [[camera]] reads better


def stream_from_file(path: Path, environment: Mapping[str, str] = os.environ) -> settings.Stream:
    """Read the settings of a stream. Paths in it are relative to the file.

    Raises:
        UserError: the file cannot be read, or is no TOML.
        FaultsError: unknown names, wrong types, values out of range, unset variables.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}", got=error, expected="TOML") from None
    faults: list[str] = []
    filled = _filled(found, environment, faults)
    for name, plural in RENAMED.items():
        if filled.pop(plural, None) is not None:
            faults.append(f"{plural}: there is no such setting, it is [[{name}]]")
    values = {RENAMED.get(name, name): value for name, value in filled.items()}
    stream = _validated(values, faults)
    if stream is not None:
        stream = _beside(stream, path.parent)
    if stream is None or faults:
        faults += [] if stream is None else faults_of(stream)
        raise FaultsError(f"{path} is not valid", [Fault(str(path), None, f) for f in faults])
    return stream


def _filled(value: Any, environment: Mapping[str, str], faults: list[str]) -> Any:
    """Put the environment's values in the place of `${NAME}`."""
    if isinstance(value, dict):
        return {name: _filled(each, environment, faults) for name, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, environment, faults) for each in value]
    if not isinstance(value, str):
        return value
    faults += [
        f"${{{name}}} is not set" for name in _VARIABLE.findall(value) if name not in environment
    ]
    return _VARIABLE.sub(lambda found: environment.get(found[1], ""), value)


def _validated(values: dict[str, Any], faults: list[str]) -> settings.Stream | None:
    """Return the settings, or what is left of them without the faulty ones, or None."""
    thresholds = values.get("thresholds")
    if isinstance(thresholds, dict):  # dog = 0.7 is short for dog = { on = 0.7 }
        short = {k: v if isinstance(v, dict) else {"on": v} for k, v in thresholds.items()}
        values = {**values, "thresholds": short}
    outputs = values.pop("outputs", None)
    stream = _typed(settings.Stream, values, (), faults)
    if outputs is None:
        return stream
    given = enumerate(outputs if isinstance(outputs, list) else [outputs])
    typed = [_output(each, n, faults) for n, each in given]
    left = tuple(each for each in typed if each is not None)
    return None if stream is None else dataclasses.replace(stream, outputs=left)


def _output(given: Any, n: int, faults: list[str]) -> Any:
    kind = given.get("kind") if isinstance(given, dict) else None
    if not isinstance(kind, str) or kind not in OUTPUTS:
        place, shown = _place(("outputs", n)), redact(repr(kind))
        faults.append(f"{place} kind: got {shown}, {did_you_mean(str(kind), OUTPUTS)}")
        return None
    return _typed(OUTPUTS[kind], given, ("outputs", n), faults)


def _typed(
    kind: type[T], given: dict[str, Any], where: tuple[int | str, ...], faults: list[str]
) -> T | None:
    """Return what is given, or what is left of it without the faulty settings, or None."""
    from pydantic import TypeAdapter, ValidationError

    def read(values: Any) -> T:
        # JSON has no tuples: they are read from lists even where types are strict.
        return TypeAdapter(kind).validate_json(json.dumps(values, default=str), strict=True)

    try:
        return read(given)
    except ValidationError as error:
        found = error.errors()
    faults += [f"{_place((*where, *fault['loc']))}: {redact(_said(fault))}" for fault in found]
    if any(_lacks(fault) and len(fault["loc"]) == 1 for fault in found):
        return None
    left = copy.deepcopy(given)
    # The last first, and whole entries at the end, so that the places of the others stay.
    for whole in (False, True):
        for fault in reversed(found):
            if _lacks(fault) == whole:
                with suppress(LookupError):  # it went with another
                    _leave_out(left, fault["loc"], whole)
    with suppress(ValidationError):
        return read(left)
    return None


def _lacks(fault: Mapping[str, Any]) -> bool:
    return fault["type"] in ("missing", "missing_argument")


def _leave_out(given: Any, place: Sequence[Any], whole: bool) -> None:
    """Delete a faulty setting, or the entry that lacks one; a camera gets another source."""
    if place[-1] == "source":
        for part in place[:-1]:
            given = given[part]
        given["source"] = STAND_IN
        return
    *way, last = place[:-1] if whole else place
    for part in way:
        inner = given[part]
        if not isinstance(inner, dict) and not (inner and isinstance(inner[0], dict)):
            last = part  # numbers that belong together, as of `roi`
            break
        given = inner
    del given[last]


def _said(fault: Mapping[str, Any]) -> str:
    if fault["type"] == "unexpected_keyword_argument":
        return "there is no such setting"
    if _lacks(fault):
        return "is missing"
    return f"{fault['msg']}, got {fault['input']!r}"


def _place(location: tuple[int | str, ...]) -> str:
    """Return a fault's place as it stands in the file: camera 2, fps."""
    back = {new: old for old, new in RENAMED.items()}
    words = [f"{part + 1}" if isinstance(part, int) else back.get(part, part) for part in location]
    return " ".join(words)


def _beside(stream: settings.Stream, folder: Path) -> settings.Stream:
    """Make relative paths relative to a folder."""

    def moved(path: str) -> str:
        return str(folder / path)

    cameras = tuple(
        dataclasses.replace(camera, source=moved(camera.source))
        if is_path(camera.source)
        else camera
        for camera in stream.cameras
    )
    outputs: list[settings.Output] = []
    for output in stream.outputs:
        match output:
            case settings.JSONL(path=str(path)):
                output = dataclasses.replace(output, path=moved(path))
            case settings.Snapshots(folder=path):
                output = dataclasses.replace(output, folder=moved(path))
            case settings.Video(path=path):
                output = dataclasses.replace(output, path=moved(path))
        outputs.append(output)
    return dataclasses.replace(
        stream, model=moved(stream.model), cameras=cameras, outputs=tuple(outputs)
    )
