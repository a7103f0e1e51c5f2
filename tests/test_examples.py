"""The programs of examples/ run as they stand, on the tiny bundle."""

from __future__ import annotations

import csv
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from patchct_edge import images

pytest.importorskip("openvino")
EXAMPLES = Path(__file__).parents[1] / "examples"
MAX_LINES = 60


@pytest.fixture
def folder(tmp_path):
    """A folder with a red, a green and a blue photo, and a file that is not an image."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for n, name in enumerate(("a-red", "b-green", "c-blue")):
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[..., n] = 255
        images.save(pixels, folder / f"{name}.png")
    return folder


def run_example(name, *arguments, code=0):
    """Run an example as a user does; return what it printed."""
    words = [sys.executable, EXAMPLES / name, *arguments]
    result = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=120)
    assert result.returncode == code, result.stderr
    return result


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_tag_folder(tiny_bundle, folder, tmp_path):
    (folder / "broken.jpg").write_bytes(b"not an image")
    result = run_example("tag_folder.py", tiny_bundle, folder, tmp_path / "tags.csv", code=1)
    assert "broken.jpg" in result.stderr
    with (tmp_path / "tags.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["photo", "tags"],
        *(
            [str(folder / name), label]
            for name, label in [
                ("a-red.png", "red"),
                ("b-green.png", "green"),
                ("c-blue.png", "blue"),
            ]
        ),
    ]


def test_camera_loop(tiny_bundle, folder):
    result = run_example("camera_loop.py", tiny_bundle, folder)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [(float(position), label) for position, _, label in lines] == [
        (0, "red"),
        (1, "green"),
        (2, "blue"),
    ]


def test_custom_sink(tiny_bundle, folder, tmp_path):
    for n in range(5):
        images.save(images.decode(folder / "a-red.png"), folder / f"a-red-{n}.png")
    run_example("custom_sink.py", tiny_bundle, folder, tmp_path / "events.sqlite")
    rows = sqlite3.connect(tmp_path / "events.sqlite").execute("SELECT label, state FROM events")
    assert ("red", "on") in rows.fetchall()


def test_evaluate_two_models(write_bundle, folder, tmp_path):
    (folder / "labels.csv").write_text(
        "image,labels,split\na-red.png,red,val\nb-green.png,green,val\nc-blue.png,blue,val\n"
    )
    good = write_bundle(tmp_path / "good.patchct")
    swapped = np.eye(3, dtype=np.float32)[[1, 0, 2]]  # takes red for green and green for red
    bad = write_bundle(tmp_path / "bad.patchct", weights=swapped)
    lines = run_example(
        "evaluate_two_models.py", bad, good, folder / "labels.csv"
    ).stdout.splitlines()
    assert lines[0].startswith(f"{bad}: mAP ")
    assert lines[1].startswith(f"{good}: mAP 100.00 ")
    assert [line.split(":")[0] for line in lines[2:]] == ["red", "green"]
    assert all(" AP +" in line for line in lines[2:])
