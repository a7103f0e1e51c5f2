"""Make the README's strip of photos with label maps, from photos that are free to ship.

    python scripts/readme_pictures.py VOC.patchct

Writes docs/assets/maps-strip.png. The photos come with scikit-image; their licenses stand in
docs/assets/README.md. The bundle must know the labels "cat" and "person".
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import skimage
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from patchct_edge import Bundle, images
from patchct_edge.arrays import RGB
from patchct_edge.explain.maps import Explanation, explain_photo
from patchct_edge.explain.overlay import REGION_COLORS, draw_heat_map, draw_regions
from patchct_edge.runtime.engines.base import Engine
from patchct_edge.runtime.engines.select import EngineRequest, open_engine

PHOTOS = Path(skimage.__file__).parent / "data"
TARGET = Path(__file__).parents[1] / "docs/assets/maps-strip.png"
SIDE_PX = 480  # of a photo before it is drawn
WIDTH_IN, HEIGHT_IN, DPI = 12.0, 2.25, 100


def main() -> None:
    """Read the arguments, explain the photos and draw the strip."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    args = parser.parse_args()
    cat, astronaut = (crop_square(PHOTOS / name) for name in ("chelsea.png", "astronaut.png"))
    bundle = Bundle(args.bundle)
    with open_engine(bundle, EngineRequest(similarity=True, latency=True)) as engine:
        cat_alone = explain_pixels(bundle, engine, cat, ["cat"])
        person_alone = explain_pixels(bundle, engine, astronaut, ["person"])
        both = explain_pixels(bundle, engine, np.hstack([cat, astronaut]), ["cat", "person"])
    draw_strip(cat_alone, person_alone, both).savefig(TARGET, dpi=DPI)
    with Image.open(TARGET) as strip:
        palette = strip.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        rgb = strip.convert("RGB").quantize(256, palette=palette)
        rgb.save(TARGET, optimize=True)
    print(f"wrote {TARGET}, {TARGET.stat().st_size / 1e3:.0f} KB")


def crop_square(path: Path) -> RGB:
    """Return the center square of a photo, uint8 (SIDE_PX, SIDE_PX, 3)."""
    photo = images.decode(path)
    height, width = photo.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    return images.resize(photo, SIDE_PX, SIDE_PX, "bicubic", box)


def explain_pixels(bundle: Bundle, engine: Engine, rgb: RGB, labels: list[str]) -> Explanation:
    """Explain an image that is not yet a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.png"
        images.save(rgb, path)
        return explain_photo(bundle, engine, path, labels)


def draw_strip(cat: Explanation, person: Explanation, both: Explanation) -> Figure:
    """Draw two photos with a label map each, then both side by side as one image."""
    tiles = [
        ("photo", cat.photo),
        (format_scores(cat), draw_heat_map(cat.photo, cat.preprocessing, cat.maps[0])),
        ("photo", person.photo),
        (format_scores(person), draw_heat_map(person.photo, person.preprocessing, person.maps[0])),
        (
            f"one image: {format_scores(both)}",
            draw_regions(both.photo, both.preprocessing, both.maps),
        ),
    ]
    figure = Figure((WIDTH_IN, HEIGHT_IN), layout="constrained")
    widths = [rgb.shape[1] for _, rgb in tiles]
    for axes, (text, rgb) in zip(
        figure.subplots(1, len(tiles), width_ratios=widths), tiles, strict=True
    ):
        axes.imshow(rgb)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_xlabel(text, fontsize=11)
    patches = [
        Patch(color=color, label=label_map.label)
        for color, label_map in zip(REGION_COLORS, both.maps, strict=False)
    ]
    axes.legend(handles=patches, loc="lower right", fontsize=9)
    return figure


def format_scores(explanation: Explanation) -> str:
    """Return the labels with their scores."""
    return ", ".join(f"{label_map.label} {label_map.score:.2f}" for label_map in explanation.maps)


if __name__ == "__main__":
    main()
