"""Measure how much faster 12-megapixel JPEGs decode at a reduced size, and what it does to tags.

    python benchmarks/large_jpeg.py X.patchct PHOTOS

The JPEGs are made from the photos: mosaics of 36, which have real detail at every scale, and single
photos scaled up. One thread reads each JPEG in every way; then all are tagged. Prints a table of
times and one of differences, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.bundle import Bundle, Preprocessing
from patchct_edge.cli import console
from patchct_edge.metrics import tag_flips
from patchct_edge.runtime.engines.select import EngineRequest, open_engine
from patchct_edge.runtime.tagging.inputs import find_images

WIDTH, HEIGHT = 4000, 3000  # pixels
MOSAIC_SIDE = 6  # photos
JPEG_QUALITY = 90
FULL, REDUCED, RESAVED = "full size", "reduced", "resaved"
PRECISIONS = ("fp32", "int8")
TIME_HEADERS = ("JPEGs", "full size, ms", "reduced, ms", "speedup")
DIFFERENCE_HEADERS = (
    "JPEGs",
    "read",
    "precision",
    "pixels",
    "mean score",
    "max score",
    "tags",
    "flips, %",
)


def main() -> None:
    """Parse the arguments, make the JPEGs, time and tag them, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=40, help="number of JPEGs of each kind")
    args = parser.parse_args()
    bundle = Bundle(args.bundle)
    photos = list(islice(find_images([str(args.photos)]), args.count * (MOSAIC_SIDE**2 + 1)))
    kinds = {
        "mosaic": make_mosaics(photos, args.count),
        "scaled up": scale_up(photos[-args.count :]),
    }
    times, differences = [], []
    for kind, jpegs in kinds.items():
        pixels, durations_s = read_every_way(jpegs, bundle.preprocessing)
        full_ms, reduced_ms = (1e3 * statistics.median(durations_s[w]) for w in (FULL, REDUCED))
        times.append({"jpegs": kind, "full_ms": full_ms, "reduced_ms": reduced_ms})
        for precision in PRECISIONS:
            differences += [
                {"jpegs": kind, "precision": precision, **row}
                for row in compare_with_full_size(bundle, precision, pixels)
            ]
    print_times(times)
    print_differences(differences)
    print(json.dumps({"count": args.count, "times": times, "differences": differences}))


def read_every_way(
    jpegs: Iterator[bytes], preprocessing: Preprocessing
) -> tuple[dict[str, list[RGB]], dict[str, list[float]]]:
    """Return the preprocessed pixels of all JPEGs, and the seconds of each, by way of reading."""
    ways: dict[str, Callable[[bytes], RGB]] = {
        FULL: lambda data: preprocessing.apply(images.decode(data)),
        REDUCED: preprocessing.read,
        # For comparison: the effect of saving a picture as JPEG once more.
        RESAVED: lambda data: preprocessing.apply(
            images.decode(_encode_jpeg(Image.open(BytesIO(data))))
        ),
    }
    pixels: dict[str, list[RGB]] = {way: [] for way in ways}
    durations_s: dict[str, list[float]] = {way: [] for way in ways}
    for data in jpegs:
        for way, read in ways.items():
            start = time.perf_counter()
            pixels[way].append(read(data))
            durations_s[way].append(time.perf_counter() - start)
    return pixels, durations_s


def compare_with_full_size(
    bundle: Bundle, precision: str, pixels: dict[str, list[RGB]]
) -> Iterator[dict[str, Any]]:
    """Yield how far pixels, scores and tags of each other way are from those of full size."""
    calibration = bundle.calibration(precision)
    with open_engine(bundle, EngineRequest(precision=precision)) as engine:
        logits = {way: engine.infer(np.stack(batch)).logits for way, batch in pixels.items()}
    scores = {way: calibration.scores(values) for way, values in logits.items()}
    tags = {way: calibration.tags(values) for way, values in logits.items()}
    for way in (REDUCED, RESAVED):
        score_difference = np.abs(scores[FULL] - scores[way])
        gray_levels = np.abs(np.subtract(pixels[FULL], pixels[way], dtype=float))
        yield {
            "read": way,
            "gray_levels": float(gray_levels.mean()),
            "mean_score_difference": float(score_difference.mean()),
            "max_score_difference": float(score_difference.max()),
            "tags": int(tags[FULL].sum()),
            "flips": tag_flips(tags[FULL], tags[way]),
        }


def print_times(rows: list[dict[str, Any]]) -> None:
    """Print the median milliseconds of both ways of reading, and their ratio."""
    cells = [
        (
            row["jpegs"],
            f"{row['full_ms']:.1f}",
            f"{row['reduced_ms']:.1f}",
            f"{row['full_ms'] / row['reduced_ms']:.2f}",
        )
        for row in rows
    ]
    console.print_table(TIME_HEADERS, cells)


def print_differences(rows: list[dict[str, Any]]) -> None:
    """Print the differences from reading at full size."""
    cells = [
        (
            row["jpegs"],
            row["read"],
            row["precision"],
            f"{row['gray_levels']:.2f}",
            f"{row['mean_score_difference']:.4f}",
            f"{row['max_score_difference']:.4f}",
            str(row["tags"]),
            console.percent(row["flips"]),
        )
        for row in rows
    ]
    console.print_table(DIFFERENCE_HEADERS, cells, text_columns=3)
    console.out.print(
        "Differences from reading at full size: pixels in gray levels, scores 0..1.\n"
        "Resaved: saved as JPEG once more, then read at full size."
    )


def make_mosaics(photos: list[Path], count: int) -> Iterator[bytes]:
    """Yield mosaics of MOSAIC_SIDE x MOSAIC_SIDE photos as JPEGs."""
    tile = (-(-WIDTH // MOSAIC_SIDE), HEIGHT // MOSAIC_SIDE)
    for n in range(count):
        canvas = Image.new("RGB", (WIDTH, HEIGHT))
        for place, path in enumerate(photos[n * MOSAIC_SIDE**2 : (n + 1) * MOSAIC_SIDE**2]):
            row, column = divmod(place, MOSAIC_SIDE)
            canvas.paste(Image.open(path).resize(tile), (column * tile[0], row * tile[1]))
        yield _encode_jpeg(canvas)


def scale_up(photos: list[Path]) -> Iterator[bytes]:
    """Yield each photo, scaled to WIDTH x HEIGHT, as a JPEG."""
    for path in photos:
        photo = Image.open(path).convert("RGB")
        yield _encode_jpeg(photo.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def _encode_jpeg(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


if __name__ == "__main__":
    main()
