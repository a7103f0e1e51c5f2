"""A dataset of real handwriting without a download: scenes composed of scikit-learn's digits.

A scene shows a few of the 1,797 handwritten digits of `load_digits()`, 8 x 8 pixels each, enlarged
and drawn on lightly cluttered paper. Its labels are the digits in words.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import cos, radians, sin
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from patchct_edge import images
from patchct_edge.arrays import RGB, Float32s, Float64s
from patchct_edge.errors import MissingLibraryError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MIN_SCENE_SIDE_PX = 48  # in which the largest digit, rotated and stretched, fits
DIGIT_SIDES_PX = (18, 28)  # what the 8 pixels of a digit become
PADDING_PX = 2  # blank pixels around a digit, so that its ink fades to paper at the edge
MAX_OVERLAP = 0.15  # of two boxes, as a fraction of the smaller one
MAX_PLACE_ATTEMPTS = 50  # after which a digit is left out
MAX_MARKS = 6  # strokes and blobs on a sheet of paper
JITTER = {"train": 1.0, "val": 0.5}  # training varies its handwriting more


class Handwriting(NamedTuple):
    """Digits to compose scenes of: ink of each pixel, 0..1 (n, 12, 12), and classes 0..9 (n,)."""

    digits: Float32s
    classes: npt.NDArray[np.int64]


class PlacedDigit(NamedTuple):
    """A digit in a scene and the box of its ink in pixels; right and bottom are exclusive."""

    label: str
    left: int
    top: int
    right: int
    bottom: int

    def overlap(self, other: PlacedDigit) -> float:
        """Return the area that two boxes share, as a fraction of the smaller one."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        smaller = min((b.right - b.left) * (b.bottom - b.top) for b in (self, other))
        return max(width, 0) * max(height, 0) / smaller


def make_scenes(
    folder: Path,
    *,
    train: int,
    val: int,
    seed: int = 0,
    size: int = 64,
    digits: tuple[int, int] = (1, 3),
    singles: float = 1 / 3,
) -> Path:
    """Write scenes with their labels, boxes and prompts to `folder`; return the path of the labels.

    The files are `labels.csv`, `boxes.csv` (in fractions of the scene), `labels.txt` (a prompt for
    each label) and `images/*.png`; the same arguments write the same bytes. Scenes of the split
    `val` show handwriting that no scene of `train` shows, whatever the seed.

    Args:
        train, val: number of scenes of each split.
        size: width and height of a scene in pixels, at least 48.
        digits: lowest and highest number of digits in a scene; one without room is left out.
        singles: fraction of train scenes with exactly one digit.

    Raises:
        MissingLibraryError: scikit-learn is not installed.
        ValueError: the scene is too small, or the numbers of digits are impossible.
    """
    if size < MIN_SCENE_SIDE_PX or not 1 <= digits[0] <= digits[1]:
        raise ValueError(f"no scenes of {size} px with {digits[0]} to {digits[1]} digits")
    pools = dict(zip(("train", "val"), read_handwriting(), strict=True))
    (folder / "images").mkdir(parents=True, exist_ok=True)

    def write(task: tuple[str, int]) -> tuple[str, str, list[PlacedDigit]]:
        split, n = task
        # A generator for each scene: it stays the same whatever the number of scenes.
        rng = np.random.default_rng((seed, split == "train", n))
        fewest, most = digits
        if split == "train":
            fewest, most = (1, 1) if rng.random() < singles else (min(max(fewest, 2), most), most)
        count = int(rng.integers(fewest, most + 1))
        scene, placed = compose_scene(rng, pools[split], count, size, jitter=JITTER[split])
        name = f"images/{split}-{n:05d}.png"
        images.save(scene, folder / name)
        return name, split, placed

    # No threads: the arrays are so small that the interpreter's lock makes two slower than one.
    tasks = [("train", n) for n in range(train)] + [("val", n) for n in range(val)]
    return _write_tables(folder, size, map(write, tasks))


def read_handwriting() -> tuple[Handwriting, Handwriting]:
    """Return the handwriting of train scenes, three quarters of all digits, and of val scenes."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise MissingLibraryError("scikit-learn") from None
    digits, classes = load_digits(return_X_y=True)
    digits = np.pad(
        digits.reshape(-1, 8, 8) / 16, ((0, 0), (PADDING_PX, PADDING_PX), (PADDING_PX, PADDING_PX))
    )
    # Independent of the scenes' seed: scenes of several seeds can be mixed, and val stays unseen.
    train, val, train_classes, val_classes = train_test_split(
        digits.astype(np.float32), classes, test_size=0.25, stratify=classes, random_state=0
    )
    return Handwriting(train, train_classes), Handwriting(val, val_classes)


def compose_scene(
    rng: np.random.Generator, pool: Handwriting, count: int, size: int, *, jitter: float
) -> tuple[RGB, list[PlacedDigit]]:
    """Return a scene, uint8 (size, size, 3), and its digits: `count`, or as many as fit."""
    scene = _draw_paper(rng, size)
    placed: list[PlacedDigit] = []
    for n in rng.integers(len(pool.classes), size=count):
        ink = _draw_ink(rng, pool.digits[n], jitter)
        box = _find_place(rng, DIGITS[pool.classes[n]], ink.shape, size, placed)
        if box is not None:
            color = 170 * rng.dirichlet((0.7, 0.7, 0.7))  # dark, of any hue
            _blend(scene[:, box.top : box.bottom, box.left : box.right], ink, color)
            placed.append(box)
    scene += 3 * rng.standard_normal((size, size), np.float32)  # grain
    return scene.clip(0, 255).astype(np.uint8).transpose(1, 2, 0), placed


def _draw_paper(rng: np.random.Generator, size: int) -> Float32s:
    """Return light paper (3, size, size): soft colors with a few faint strokes and blobs."""
    wash = images.resize(rng.integers(165, 250, (3, 3, 3), np.uint8), size, size, "bicubic")
    # Channels first: NumPy is much slower along an axis of three.
    paper = np.array(wash.transpose(2, 0, 1), np.float32, order="C")
    x = np.arange(size, dtype=np.float32)
    y = x[:, None]
    for _ in range(rng.integers(MAX_MARKS + 1)):
        top, left, angle = rng.uniform(0, (size, size, np.pi)).tolist()
        length, width, strength = rng.uniform((0, 0.6, 0.15), (16, 3, 0.4)).tolist()
        # A mark is the surroundings of a segment: a stroke, or a blob if it is short and wide.
        dy, dx = sin(angle), cos(angle)
        along = ((y - top) * dy + (x - left) * dx).clip(0, length)
        squared = (y - top - along * dy) ** 2 + (x - left - along * dx) ** 2
        _blend(paper, strength * np.exp(-squared / width**2), rng.uniform(40, 255, 3))
    return paper


def _blend(region: Float32s, opacity: Float32s, color: Float64s) -> None:
    """Blend a color (3,) into a region (3, h, w) with the opacity `opacity`, 0..1 (h, w)."""
    region += opacity * (color.astype(np.float32)[:, None, None] - region)


def _draw_ink(rng: np.random.Generator, digit: Float32s, jitter: float) -> Float32s:
    """Return the ink of a digit, 0..1 (h, w): enlarged, rotated, stretched, and cropped."""
    from scipy.ndimage import affine_transform

    side = rng.uniform(*DIGIT_SIDES_PX)
    canvas = int(1.6 * side)  # px, enough for any rotation
    angle, shear, *stretch = jitter * rng.uniform(-1, 1, 4) * (radians(12), 0.2, 0.12, 0.12)
    rotation = np.array([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]]) * (8 / side)
    to_digit = rotation @ [[1, 0], [shear, 1]] * np.exp(stretch)
    offset = (len(digit) - 1) / 2 - to_digit.sum(1) * (canvas - 1) / 2  # center to center
    enlarged = affine_transform(digit, to_digit, offset, (canvas, canvas), order=3)
    # A pixel holds its fraction of ink: a steep ramp restores the edge of the pen stroke.
    ink: Float32s = ((enlarged - 0.25) / 0.5).clip(0, 1)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _find_place(
    rng: np.random.Generator,
    label: str,
    shape: tuple[int, ...],
    size: int,
    others: list[PlacedDigit],
) -> PlacedDigit | None:
    """Return a random box of (height, width) `shape` with little overlap, or None."""
    height, width = shape
    for _ in range(MAX_PLACE_ATTEMPTS):
        top, left = rng.integers((size - height + 1, size - width + 1)).tolist()
        box = PlacedDigit(label, left, top, left + width, top + height)
        if all(box.overlap(other) <= MAX_OVERLAP for other in others):
            return box
    return None


def _write_tables(
    folder: Path, size: int, scenes: Iterable[tuple[str, str, list[PlacedDigit]]]
) -> Path:
    """Write the labels, the boxes and the prompts; return the path of the labels."""
    labels, boxes = ["image,split,labels"], ["image,label,xmin,ymin,xmax,ymax,difficult"]
    for name, split, placed in scenes:
        labels.append(f"{name},{split},{'|'.join(sorted({box.label for box in placed}))}")
        for label, *edges in placed:
            boxes.append(",".join((name, label, *(f"{edge / size:.6f}" for edge in edges), "0")))
    prompts = [f"{digit}\tA handwritten digit {digit}." for digit in DIGITS]
    for file, lines in (("labels.csv", labels), ("boxes.csv", boxes), ("labels.txt", prompts)):
        (folder / file).write_text("\n".join(lines) + "\n", "utf-8", newline="\n")
    return folder / "labels.csv"
