"""Python 3.10, which JetPack 6 brings: proved as far as one interpreter allows.

The sources are compiled for 3.10 by mypy (`python_version` in pyproject.toml) and by vermin (`make
lint`). Here, wheels for 3.10 must exist for everything that runs on a device, on both kinds of
machine, with the lowest and with the newest versions that pyproject.toml allows.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEVICE_EXTRAS = ("onnxruntime", "tensorrt", "stream", "report")
# Ubuntu 22.04, the system of JetPack 6, has glibc 2.35.
PLATFORMS = ("aarch64-manylinux_2_35", "x86_64-manylinux_2_28")
pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]


@pytest.mark.parametrize("resolution", ["lowest-direct", "highest"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_wheels_for_python_310_resolve(platform: str, resolution: str) -> None:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    extras = [word for extra in DEVICE_EXTRAS for word in ("--extra", extra)]
    completed = subprocess.run(
        [
            uv,
            "pip",
            "compile",
            "--no-config",
            "--python-version",
            "3.10",
            "--python-platform",
            platform,
            "--resolution",
            resolution,
            "--only-binary",
            ":all:",
            *extras,
            str(ROOT / "pyproject.toml"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert completed.returncode == 0, completed.stderr
    packages = {line.partition("==")[0] for line in completed.stdout.splitlines() if "==" in line}
    assert {"numpy", "pillow", "openvino", "onnxruntime", "av", "cuda-bindings"} <= packages
