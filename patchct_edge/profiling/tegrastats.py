"""Temperature and power of a Jetson while something runs, from its program `tegrastats`."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

PROGRAM = "tegrastats"
INTERVAL_MS = 200  # between two lines
CELSIUS = re.compile(r"(\w+)@(-?\d+(?:\.\d+)?)C\b")  # tj@47.5C; a sensor that is off prints -256
MILLIWATTS = re.compile(r"(\w+) (\d+)mW/\d+mW")  # VDD_IN 5000mW/4900mW: now, and on average

T = TypeVar("T")


@dataclass(frozen=True)
class Power:
    """Power of one rail, in watts."""

    mean: float
    max: float


@dataclass(frozen=True)
class DeviceStats:
    """Temperature and power over a stretch of work.

    Args:
        temperature: the highest of each sensor, in °C.
        power: of each rail; `VDD_IN`, where there is one, is the whole module.
    """

    temperature: dict[str, float]
    power: dict[str, Power]


def record_device_stats(work: Callable[[], T]) -> tuple[T, DeviceStats | None]:
    """Run `work`; return its result, and the device's stats meanwhile.

    The stats are None where the program is missing or printed no figure.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        return work(), None
    with tempfile.TemporaryFile("w+") as lines:  # a pipe would fill up: nobody reads meanwhile
        command = [program, "--interval", str(INTERVAL_MS)]
        with subprocess.Popen(command, stdout=lines) as process:
            try:
                result = work()
            finally:
                process.terminate()
        lines.seek(0)
        return result, parse_tegrastats(lines.read())


def parse_tegrastats(lines: str) -> DeviceStats | None:
    """Parse what `tegrastats` of JetPack 5 or later printed; None where it has no figure."""
    celsius: dict[str, list[float]] = {}
    watts: dict[str, list[float]] = {}
    for sensor, degrees in CELSIUS.findall(lines):
        celsius.setdefault(sensor, []).append(float(degrees))
    for rail, milliwatts in MILLIWATTS.findall(lines):
        watts.setdefault(rail, []).append(int(milliwatts) / 1000)
    if not (celsius or watts):
        return None
    return DeviceStats(
        {sensor: max(values) for sensor, values in celsius.items()},
        {rail: Power(sum(values) / len(values), max(values)) for rail, values in watts.items()},
    )
