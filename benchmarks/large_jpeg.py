"""JPEGs of 12 megapixels: how much faster they are decoded small, and what that does to the tags.

    python benchmarks/large_jpeg.py X.patchct PHOTOS

The pictures are made from the photos: mosaics of 36, which have real detail at every scale, and
single ones scaled up. Each is read both ways, one thread, median time; then all are tagged.
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

import numpy as np
from PIL import Image

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.bundle import Bundle, Preprocessing
from patchct_edge.metrics import tag_flips
from patchct_edge.runtime.engines.select import EngineRequest, open_engine
from patchct_edge.runtime.tagging.inputs import find_images

WIDTH, HEIGHT, SIDE = 4000, 3000, 6  # pixels, and photos a side of a mosaic
QUALITY = 90


def main() -> None:
    """Read the arguments, make the pictures, time and tag them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=40, help="of each kind")
    args = parser.parse_args()
    bundle = Bundle(args.bundle)
    files = list(islice(find_images([str(args.photos)]), args.count * (SIDE**2 + 1)))
    for kind, made in (("mosaic", mosaics), ("scaled up", scaled_up)):
        pixels, seconds = read_each_way(made(files, args.count), bundle.preprocessing)
        full, small = (statistics.median(seconds[way]) for way in ("full", "small"))
        ratio = round(full / small, 2)
        times = {"full_ms": round(1e3 * full, 1), "small_ms": round(1e3 * small, 1), "ratio": ratio}
        print(json.dumps({"pictures": kind, "count": args.count, **times}), flush=True)
        for precision in ("fp32", "int8"):
            for way, row in compared(bundle, precision, pixels).items():
                print(json.dumps({"pictures": kind, "precision": precision, "read": way, **row}))


def read_each_way(
    jpegs: Iterator[bytes], preprocessing: Preprocessing
) -> tuple[dict[str, list[RGB]], dict[str, list[float]]]:
    """Return the pixels and the seconds of each way of reading."""
    ways: dict[str, Callable[[bytes], RGB]] = {
        "full": lambda data: preprocessing.apply(images.decode(data)),
        "small": preprocessing.read,
        # For comparison: what it does to the tags to save a picture once more.
        "saved again": lambda data: preprocessing.apply(
            images.decode(_jpeg(Image.open(BytesIO(data))))
        ),
    }
    pixels: dict[str, list[RGB]] = {way: [] for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for data in jpegs:
        for way, read in ways.items():
            began = time.perf_counter()
            pixels[way].append(read(data))
            seconds[way].append(time.perf_counter() - began)
    return pixels, seconds


def compared(
    bundle: Bundle, precision: str, pixels: dict[str, list[RGB]]
) -> dict[str, dict[str, float]]:
    """Return how far pixels, scores and tags of each way are from those of the full pictures."""
    calibration = bundle.calibration(precision)
    with open_engine(bundle, EngineRequest(precision=precision)) as engine:
        scores = {
            way: calibration.scores(engine.infer(np.stack(found)).logits)
            for way, found in pixels.items()
        }
    tags = {way: found >= calibration.thresholds for way, found in scores.items()}
    return {
        way: {
            "grey_levels": float(np.abs(np.subtract(pixels["full"], found, dtype=float)).mean()),
            "mean_difference": float(np.abs(scores["full"] - scores[way]).mean()),
            "max_difference": float(np.abs(scores["full"] - scores[way]).max()),
            "tags": int(tags["full"].sum()),
            "flips": tag_flips(tags["full"], tags[way]),
        }
        for way, found in pixels.items()
        if way != "full"
    }


def mosaics(files: list[Path], count: int) -> Iterator[bytes]:
    """Yield mosaics of SIDE x SIDE photos."""
    tile = (-(-WIDTH // SIDE), HEIGHT // SIDE)
    for n in range(count):
        canvas = Image.new("RGB", (WIDTH, HEIGHT))
        for place, path in enumerate(files[n * SIDE**2 : (n + 1) * SIDE**2]):
            row, column = divmod(place, SIDE)
            canvas.paste(Image.open(path).resize(tile), (column * tile[0], row * tile[1]))
        yield _jpeg(canvas)


def scaled_up(files: list[Path], count: int) -> Iterator[bytes]:
    """Yield single photos, scaled to the full size."""
    for path in files[-count:]:
        photo = Image.open(path).convert("RGB")
        yield _jpeg(photo.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def _jpeg(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


if __name__ == "__main__":
    main()
