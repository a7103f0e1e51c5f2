"""Files or bytes to RGB arrays, and back: the only module that imports the decoder (Pillow)."""

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

# Not all that Pillow can read: for EPS it would run another program.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF", "JPEG2000")
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".jp2", ".ppm"}
)
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# Decoding takes up to 20 bytes a pixel. Pillow warns at this size and refuses twice as many.
MAX_PIXELS = 89_000_000
# Pillow's warnings name no file; what matters is raised as an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
ORIENTATION_TAG = 0x0112  # of EXIF
TRANSPOSES = {  # that turn an image upright, by its orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(source: str | os.PathLike[str] | bytes, min_side: int | None = None) -> RGB:
    """Decode an image to uint8 (height, width, 3) RGB, upright by its EXIF orientation.

    Of an animation the first frame is taken; transparent pixels become white; 16-bit gray is scaled
    to 8 bits.

    Args:
        min_side: pixels that each side must keep. A JPEG that is at least twice as large is
            decoded at 1/2, 1/4 or 1/8 of its size, which is several times as fast.

    Raises:
        ImageError: the file is missing, unreadable, or not an image that can be decoded whole.
    """
    name = f"image of {len(source)} bytes" if isinstance(source, bytes) else str(source)
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=FORMATS) as image:
            if min_side is not None:
                image.draft(None, (min_side, min_side))
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height}")
            return np.asarray(_convert_to_rgb(_turn_upright(image)))
    except FileNotFoundError:
        raise ImageError(f"no such file: {name}") from None
    except UnidentifiedImageError:
        raise ImageError(
            f"cannot decode {name}: not an image", expected=", ".join(FORMATS)
        ) from None
    except Image.DecompressionBombError as error:
        expected = f"at most {MAX_PIXELS // 10**6} million, a large JPEG 178 million"
        raise ImageError(f"too many pixels: {name}", got=error, expected=expected) from None
    except MemoryError:
        raise  # the machine is at fault, not the file
    except Exception as error:  # on damage, Pillow's plugins raise exceptions of many classes
        raise ImageError(f"cannot decode {name}: {error}") from None


def read_dimensions(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Read (width, height) of an image that can be decoded, upright by its EXIF orientation."""
    with Image.open(path, formats=FORMATS) as image:
        if image.format == "TIFF":
            image.load()  # turns it upright and removes the tag
        width, height = image.size
        is_on_its_side = image.getexif().get(ORIENTATION_TAG, 1) in (5, 6, 7, 8)
    return (height, width) if is_on_its_side else (width, height)


def _turn_upright(image: Image.Image) -> Image.Image:
    image.load()  # turns a TIFF upright and removes the tag
    # Not Pillow's exif_transpose: it writes new EXIF data, and fails if another tag is damaged.
    transpose = TRANSPOSES.get(image.getexif().get(ORIENTATION_TAG, 1))
    return image if transpose is None else image.transpose(transpose)


def _convert_to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 32 bits, of which most files use 16, such as PGM
        gray = np.asarray(image)
        gray = gray >> 8 if image.mode != "I" or gray.max() > 255 else gray
        return Image.fromarray(gray.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", rgba.size, "white")
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image.convert("RGB")


def resize(rgb: RGB, width: int, height: int, interpolation: str, box: Box | None = None) -> RGB:
    """Resample `box` of an image (all of it by default) to uint8 (height, width, 3).

    `interpolation` is a key of `INTERPOLATIONS`. The filter is wider where the image shrinks, so
    that no pixel is skipped.
    """
    image = Image.fromarray(rgb)
    return np.asarray(image.resize((width, height), INTERPOLATIONS[interpolation], box=box))


def encode(rgb: RGB, format: str) -> bytes:
    """Return uint8 (height, width, 3) as the bytes of a file of a format, such as "PNG"."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, format)
    return file.getvalue()


def resize_longer_side(rgb: RGB, side: int, interpolation: str) -> RGB:
    """Resample an image so that its longer side has `side` pixels; keep its aspect ratio."""
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    return resize(rgb, max(1, round(width * scale)), max(1, round(height * scale)), interpolation)


def draw_caption(rgb: RGB, lines: Sequence[str]) -> RGB:
    """Return a copy with lines of text in the upper left corner, white on black."""
    image = Image.fromarray(rgb)
    size = max(12, image.height // 30)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    for n, line in enumerate(lines):
        box = draw.textbbox((size // 2, size // 2 + n * size * 1.3), line, font=font)
        draw.rectangle((box[0] - 3, box[1] - 2, box[2] + 3, box[3] + 2), fill="black")
        draw.text((size // 2, size // 2 + n * size * 1.3), line, fill="white", font=font)
    return np.asarray(image)


def save(rgb: RGB, path: Path) -> None:
    """Write uint8 (height, width, 3) in the format that the suffix names."""
    Image.fromarray(rgb).save(path)
