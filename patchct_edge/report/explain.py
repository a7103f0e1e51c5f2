"""Heat maps: where in a picture a tag comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from patchct_edge import images, navigators
from patchct_edge.bundle import Bundle
from patchct_edge.errors import MissingExtra
from patchct_edge.runtime.engines.base import Engine
from patchct_edge.tagging import Tag, tags_from_scores

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Explained:
    """A picture as the engine saw it, its tags, and a map for each of them.

    `pixels` is uint8 (H, W, 3); `maps` float32 (tags, rows, columns), the backward navigator
    B(n|m), each summing to 1.
    """

    pixels: images.RGB
    tags: tuple[Tag, ...]
    maps: Floats


def explained(bundle: Bundle, engine: Engine, path: Path) -> Explained:
    """Tag one picture and compute the backward navigator of each tag.

    Args:
        engine: opened with `similarity=True`.

    Raises:
        ImageError: the picture cannot be decoded.
    """
    pixels = bundle.manifest.recipe.read(path)
    logits, similarity = engine.infer(pixels[None])
    if similarity is None:
        raise ValueError("the engine was opened without similarity")
    calibration = bundle.calibration(engine.record.precision)
    scores = calibration.scores(logits)[0]
    tags = tuple(tags_from_scores(scores, bundle.labels, calibration.thresholds))
    attention = navigators.backward(similarity[0], bundle.manifest.tau)  # (M, N)
    rows = [bundle.labels.index(tag.label) for tag in tags]
    return Explained(pixels, tags, attention[rows].reshape(-1, *bundle.manifest.grid))


def draw_sheet(pictures: Sequence[Explained], path: Path, *, columns: int = 4) -> None:
    """Draw one row a picture: the picture itself, then each tag's map over it (PNG).

    Args:
        columns: tags shown for a picture, the highest scores first.
    """
    try:
        from matplotlib.figure import Figure  # not pyplot: a notebook keeps its own backend
    except ImportError:
        raise MissingExtra("matplotlib", "report") from None

    shown = max((min(len(picture.tags), columns) for picture in pictures), default=0)
    figure = Figure(figsize=(2.1 * (shown + 1), 2.3 * len(pictures)), layout="constrained")
    axes = figure.subplots(len(pictures), shown + 1, squeeze=False)
    for row, picture in zip(axes, pictures, strict=True):
        for axis in row:
            axis.axis("off")
        row[0].imshow(picture.pixels)
        row[0].set_title("picture" if picture.tags else "picture, no tag", fontsize=9)
        for axis, tag, heat in zip(row[1:], picture.tags, picture.maps, strict=False):
            axis.imshow(overlay(picture.pixels, heat))
            axis.set_title(f"{tag.label}  {tag.score:.2f}", fontsize=9)
    figure.savefig(path, dpi=110)


def overlay(pixels: images.RGB, heat: Floats) -> images.RGB:
    """Lay a map (rows, columns) over a picture: bright where it is strong, grey where it is not."""
    height, width = pixels.shape[:2]
    grey = (255 * heat / max(float(heat.max()), 1e-12)).astype(np.uint8)
    large = images.resize(np.repeat(grey[:, :, None], 3, 2), width, height, "bilinear")
    strength = large[:, :, :1] / 255  # (H, W, 1)
    faded = 0.35 * pixels.mean(2, keepdims=True) + 0.65 * 255 * 0.5
    warm = np.array([255, 140, 0])  # orange: told from blue and grey with any colour vision
    lit = 0.55 * pixels + 0.45 * warm
    blended: images.RGB = (strength * lit + (1 - strength) * faded).astype(np.uint8)
    return blended
