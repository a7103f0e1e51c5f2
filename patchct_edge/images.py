"""File or bytes to an RGB array, and back: the only module that imports the decoder (Pillow)."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from patchct_edge.arrays import RGB
from patchct_edge.errors import ImageError

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels

# Not all that Pillow knows: to read EPS it would run another program.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF", "JPEG2000")
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".jp2", ".ppm"}
)
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# Decoded, up to 20 bytes a pixel for a moment. Pillow warns at this size, and refuses twice of it.
MAX_PIXELS = 89_000_000
# What Pillow warns of names no file; what matters is an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
ORIENTATION = 0x0112  # EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(source: str | os.PathLike[str] | bytes, at_least: int | None = None) -> RGB:
    """Decode an image to uint8 (H, W, 3) RGB, EXIF orientation applied.

    The first frame of an animation is taken; transparency is laid on white; 16-bit grey is scaled
    to 8 bits.

    Args:
        at_least: pixels that each side must keep. A JPEG that is at least twice as large is
            decoded at 1/2, 1/4 or 1/8 of its size, which is several times as fast.

    Raises:
        ImageError: the file is missing, unreadable, or no image that can be decoded whole.
    """
    name = f"image of {len(source)} bytes" if isinstance(source, bytes) else str(source)
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=FORMATS) as image:
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height}")
            return np.asarray(_rgb(_upright(image)))
    except FileNotFoundError:
        raise ImageError(f"no such file: {name}") from None
    except UnidentifiedImageError:
        raise ImageError(
            f"not an image that can be decoded: {name}", expected=", ".join(FORMATS)
        ) from None
    except Image.DecompressionBombError as error:
        expected = f"at most {MAX_PIXELS // 10**6} million, a large JPEG 178 million"
        raise ImageError(f"too many pixels: {name}", got=error, expected=expected) from None
    except MemoryError:
        raise  # the machine's fault, not the file's
    except Exception as error:  # what Pillow's plugins raise on damage has no common base class
        raise ImageError(f"cannot decode {name}: {error}") from None


def dimensions(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (width, height) of an image that can be decoded, EXIF orientation applied."""
    with Image.open(path, formats=FORMATS) as image:
        if image.format == "TIFF":
            image.load()  # turns itself upright, and takes the tag away
        width, height = image.size
        turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
    return (height, width) if turned else (width, height)


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # turns a TIFF upright itself, and takes the tag away
    # Not Pillow's exif_transpose: it writes the EXIF anew, and fails where another tag is damaged.
    turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # "I" holds 32 bits, and mostly 16 of them: a PGM's, say
        grey = np.asarray(image)
        grey = grey >> 8 if image.mode != "I" or grey.max() > 255 else grey
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", rgba.size, "white")
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image.convert("RGB")


def resize(rgb: RGB, width: int, height: int, interpolation: str, box: Box | None = None) -> RGB:
    """Resample `box` of an image (all of it by default) to uint8 (height, width, 3).

    `interpolation` is a key of `FILTERS`; the filter is widened when shrinking (antialiasing).
    """
    image = Image.fromarray(rgb)
    return np.asarray(image.resize((width, height), FILTERS[interpolation], box=box))


def encode(rgb: RGB, format: str) -> bytes:
    """Return uint8 (H, W, 3) as the bytes of a file, such as of "PNG" or "JPEG"."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, format)
    return file.getvalue()


def shrink(rgb: RGB, side: int, interpolation: str) -> RGB:
    """Resample an image so that its longer side has `side` pixels, the other as its shape asks."""
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    return resize(rgb, max(1, round(width * scale)), max(1, round(height * scale)), interpolation)


def draw_caption(rgb: RGB, lines: Sequence[str]) -> RGB:
    """Return a copy with lines of text in its upper left corner, white on black."""
    image = Image.fromarray(rgb)
    size = max(12, image.height // 30)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    for n, line in enumerate(lines):
        box = draw.textbbox((size // 2, size // 2 + n * size * 1.3), line, font=font)
        draw.rectangle((box[0] - 3, box[1] - 2, box[2] + 3, box[3] + 2), fill="black")
        draw.text((size // 2, size // 2 + n * size * 1.3), line, fill="white", font=font)
    return np.asarray(image)


def save(rgb: RGB, path: Path) -> None:
    """Write uint8 (H, W, 3) as the format that the suffix names."""
    Image.fromarray(rgb).save(path)
