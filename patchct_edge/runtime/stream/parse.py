"""Stream settings from plain values, such as those of a TOML file: all faults at once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import NoneType
from typing import Any

from pydantic import BaseModel, ValidationError

from patchct_edge.errors import did_you_mean
from patchct_edge.runtime.stream.redaction import redact
from patchct_edge.runtime.stream.settings import (
    SINK_MODELS,
    CameraSettings,
    StreamSettings,
    ThresholdSettings,
)

Location = Sequence[int | str]
STAND_IN_SOURCE = "test://pattern"
SINGULAR = {"cameras": "camera", "sinks": "sink"}  # TOML's [[camera]] reads better
MAX_REPAIR_PASSES = 2  # an entry may lack a setting only once a faulty value was removed
NOT_A_TABLE = ("model_type", "model_attributes_type", "dict_type")
EXPECTED_TYPES = {
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
}
COMPARISONS = {  # in this order
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "more than",
}
_REMOVED = object()


def describe_location(location: Location) -> str:
    """Return where a setting stands in a file, such as "camera 2 max_fps"."""
    return " ".join(
        f"{part + 1}" if isinstance(part, int) else SINGULAR.get(part, part) for part in location
    )


def parse_settings(
    values: Mapping[str, Any],
    faults: list[str],
    describe: Callable[[Location], str] = describe_location,
) -> StreamSettings | None:
    """Return the settings without the faulty ones; None if nothing useful remains.

    The valid settings are returned despite faults in others, so that `find_faults` can check them
    too and all faults are listed together.

    Args:
        values: the fields of `StreamSettings` as plain values.
        faults: each fault of form is appended: unknown or missing names, types, ranges.
        describe: returns how a fault names a setting.
    """
    values = dict(values)
    thresholds = values.get("thresholds")
    if isinstance(thresholds, dict):  # dog = 0.7 is short for dog = { on = 0.7 }
        values["thresholds"] = {
            label: threshold if isinstance(threshold, dict) else {"on": threshold}
            for label, threshold in thresholds.items()
        }
    try:
        return _validate(values)
    except ValidationError as error:
        errors = error.errors()
    for fault in errors:
        location = _without_sink_kind(fault["loc"])
        text, location = _explain(fault, location)
        sentence = redact(f"{describe(location)}: {text}")
        if sentence not in faults:  # each number that a region lacks is an error of its own
            faults.append(sentence)
    for _ in range(MAX_REPAIR_PASSES):
        values = _drop_invalid_fields(values, errors)
        try:
            return _validate(values)
        except ValidationError as error:
            errors = error.errors()
    return None


def _validate(values: Mapping[str, Any]) -> StreamSettings:
    # Not as JSON, which cannot hold a path that is not UTF-8.
    return StreamSettings.model_validate(_to_strict(values), strict=True)


def _to_strict(value: Any) -> Any:
    """Return plain values as strict types want them: tuples for lists, text for TOML's dates."""
    if isinstance(value, Mapping):
        return {name: _to_strict(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_to_strict(inner) for inner in value)
    return value if isinstance(value, (str, int, float, NoneType)) else str(value)


def _without_sink_kind(location: Location) -> Location:
    """Drop the kind of a sink, which pydantic puts behind its number."""
    if location[0] == "sinks" and len(location) > 2:
        return (*location[:2], *location[3:])
    return location


def _explain(fault: Mapping[str, Any], location: Location) -> tuple[str, Location]:
    """Return what is wrong, and the location of the setting that should change."""
    kind, value, message = fault["type"], fault["input"], fault["msg"]
    got = f"got {value!r}" if kind == "int_type" else f"got {_show(value)}"  # 5.0 is not 5
    if kind == "too_long" or (kind == "missing" and isinstance(location[-1], int)):
        region = location if kind == "too_long" else location[:-1]
        return f"{got}, expected x, y, width, height", region
    if kind == "missing":
        return "missing", location
    if kind == "extra_forbidden":
        names = [SINGULAR.get(name, name) for name in _model_at(fault["loc"]).model_fields]
        suggestion = did_you_mean(str(location[-1]), names)
        return f"unknown setting, {suggestion}", location
    if kind == "union_tag_not_found":
        return f"missing, expected one of {', '.join(SINK_MODELS)}", (*location, "kind")
    if kind == "union_tag_invalid":
        suggestion = did_you_mean(str(value["kind"]), SINK_MODELS)
        return f"got {_show(value['kind'])}, {suggestion}", (*location, "kind")
    if kind in NOT_A_TABLE:
        return f"{got}, expected a table", location
    if kind == "tuple_type" and location[-1] in SINGULAR:
        return f"{got}, expected [[{SINGULAR[str(location[-1])]}]]", location
    expected = message.removeprefix("Input should be ").replace("valid ", "")
    for pydantic_words, words in COMPARISONS.items():
        expected = expected.replace(pydantic_words, words)
    return f"{got}, expected {EXPECTED_TYPES.get(kind, expected)}", location


def _show(value: object) -> str:
    """Return a value as a person would write it."""
    if isinstance(value, float):
        return f"{value:g}"
    return repr(list(value) if isinstance(value, tuple) else value)


def _model_at(location: Location) -> type[BaseModel]:
    """Return the model that has, or lacks, the setting at a location."""
    if len(location) < 3:
        return StreamSettings
    if location[0] == "sinks":
        return SINK_MODELS[str(location[2])]
    return CameraSettings if location[0] == "cameras" else ThresholdSettings


def _drop_invalid_fields(values: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> Any:
    """Return a copy without faulty settings and without entries that lack one.

    A camera without a valid source, or one that is not a table, becomes a test pattern instead, so
    that the others keep their numbers and no sink misses its camera.
    """
    remaining = copy.deepcopy(dict(values))
    for fault in errors:
        location = _without_sink_kind(fault["loc"])
        replacement: object = _REMOVED
        if location[0] == "cameras" and len(location) == 2:
            replacement = {"source": STAND_IN_SOURCE, "name": describe_location(location)}
        elif location[-1] == "source":
            replacement = STAND_IN_SOURCE
        elif fault["type"] == "missing" or (isinstance(location[-1], int) and len(location) > 2):
            location = location[:-1]  # the entry, or all numbers of a region
        with suppress(LookupError, TypeError):  # it was removed with another
            _replace(remaining, location, replacement)
    return _without_removed(remaining)


def _replace(values: Any, location: Location, replacement: object) -> None:
    for part in location[:-1]:
        values = values[part]
    if location:
        values[location[-1]] = replacement


def _without_removed(values: Any) -> Any:
    if isinstance(values, dict):
        return {k: _without_removed(v) for k, v in values.items() if v is not _REMOVED}
    if isinstance(values, list):
        return [_without_removed(value) for value in values if value is not _REMOVED]
    return values
