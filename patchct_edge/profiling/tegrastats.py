"""Temperature and power of a Jetson while something runs, as its program `tegrastats` has them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

PROGRAM = "tegrastats"
INTERVAL = "200"  # ms between two lines
CELSIUS = re.compile(r"(\w+)@(-?\d+(?:\.\d+)?)C\b")  # tj@47.5C; a sensor that is off says -256
MILLIWATTS = re.compile(r"(\w+) (\d+)mW/\d+mW")  # VDD_IN 5000mW/4900mW: now, and on average

T = TypeVar("T")


@dataclass(frozen=True)
class Power:
    """Watts of one rail over the lines."""

    mean: float
    max: float


@dataclass(frozen=True)
class DeviceStats:
    """What the lines say: the highest temperature (°C) of each sensor, and the power of each rail.

    `VDD_IN`, where there is one, is the whole module.
    """

    temperature: dict[str, float]
    power: dict[str, Power]


def record_device_stats(work: Callable[[], T]) -> tuple[T, DeviceStats | None]:
    """Do some work; return what it returns, and the board meanwhile: None where nothing tells."""
    program = shutil.which(PROGRAM)
    if program is None:
        return work(), None
    with tempfile.TemporaryFile("w+") as lines:  # not a pipe: nobody reads it meanwhile
        with subprocess.Popen([program, "--interval", INTERVAL], stdout=lines) as running:
            try:
                done = work()
            finally:
                running.terminate()
        lines.seek(0)
        return done, parse_tegrastats(lines.read())


def parse_tegrastats(lines: str) -> DeviceStats | None:
    """Read what `tegrastats` of JetPack 5 or later printed; None where it holds no figure."""
    celsius: dict[str, list[float]] = {}
    watts: dict[str, list[float]] = {}
    for sensor, degrees in CELSIUS.findall(lines):
        celsius.setdefault(sensor, []).append(float(degrees))
    for rail, milliwatts in MILLIWATTS.findall(lines):
        watts.setdefault(rail, []).append(int(milliwatts) / 1000)
    if not (celsius or watts):
        return None
    return DeviceStats(
        {sensor: max(found) for sensor, found in celsius.items()},
        {rail: Power(sum(found) / len(found), max(found)) for rail, found in watts.items()},
    )
