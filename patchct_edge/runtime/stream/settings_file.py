"""A stream's settings as a TOML file: strict, all faults together, `${NAME}` from the environment.

model = "x.patchct"

[[camera]]
name = "door"
source = "rtsp://user:${DOOR_PASSWORD}@10.0.0.5/stream"

[[sink]]
kind = "mqtt"
url = "mqtt://broker/house"

[thresholds]
dog = 0.7
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from patchct_edge.errors import Fault, FaultsError, UserError
from patchct_edge.runtime.stream.parse import SINGULAR, parse_settings
from patchct_edge.runtime.stream.settings import (
    CameraSettings,
    JSONLSettings,
    SinkSettings,
    SnapshotsSettings,
    StreamSettings,
    VideoSettings,
)
from patchct_edge.runtime.stream.sources.address import is_path
from patchct_edge.runtime.stream.validate import find_faults

_VARIABLE = re.compile(r"\$\{(\w+)\}")


def read_settings_file(path: Path, environment: Mapping[str, str] = os.environ) -> StreamSettings:
    """Read the settings of a stream. Paths in it are relative to the file.

    Raises:
        UserError: the file cannot be read, or is not TOML.
        FaultsError: unknown names, wrong types, values out of range, unset variables.
    """
    if sys.version_info >= (3, 11):
        import tomllib  # novermin: below 3.11, tomli takes its place
    else:
        import tomli as tomllib
    try:
        toml = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}", got=error.strerror, fix="check the path") from None
    except ValueError as error:
        raise UserError(f"{path} is not TOML", got=error) from None
    faults: list[str] = []
    values = _expand_variables(toml, environment, faults)
    for plural, singular in SINGULAR.items():
        if values.pop(plural, None) is not None:
            faults.append(f"{plural}: unknown setting, did you mean [[{singular}]]?")
        if singular in values:
            values[plural] = values.pop(singular)
    settings = parse_settings(values, faults)
    if settings is not None:
        settings = _resolve_paths(settings, path.parent)
    if settings is None or faults:
        faults += [] if settings is None else find_faults(settings)
        raise FaultsError(f"{path} is not valid", [Fault(str(path), None, f) for f in faults])
    return settings


def _expand_variables(value: Any, environment: Mapping[str, str], faults: list[str]) -> Any:
    """Replace each `${NAME}` in a text by the value of that environment variable."""
    if isinstance(value, dict):
        return {
            name: _expand_variables(inner, environment, faults) for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_expand_variables(inner, environment, faults) for inner in value]
    if not isinstance(value, str):
        return value
    faults += [
        f"${{{name}}} is not set" for name in _VARIABLE.findall(value) if name not in environment
    ]
    return _VARIABLE.sub(lambda match: environment.get(match[1], ""), value)


def _resolve_paths(settings: StreamSettings, folder: Path) -> StreamSettings:
    """Make relative paths relative to a folder."""

    def resolve_camera(camera: CameraSettings) -> CameraSettings:
        if not is_path(camera.source):
            return camera
        return camera.model_copy(update={"source": str(folder / camera.source)})

    def resolve_sink(sink: SinkSettings) -> SinkSettings:
        match sink:
            case JSONLSettings(path=str(path)) | VideoSettings(path=path):
                return sink.model_copy(update={"path": str(folder / path)})
            case SnapshotsSettings(folder=path):
                return sink.model_copy(update={"folder": str(folder / path)})
        return sink

    return settings.model_copy(
        update={
            "model": str(folder / settings.model),
            "cameras": tuple(map(resolve_camera, settings.cameras)),
            "sinks": tuple(map(resolve_sink, settings.sinks)),
        }
    )
