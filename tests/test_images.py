"""Decoding: the pixels of each kind of file, and the files that are refused."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from patchct_edge import images
from patchct_edge.errors import ImageError

# What a viewer does to the stored pixels, by the EXIF tag Orientation.
TURNS: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
}


def noise(height=5, width=7, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encode_image(image, form="PNG", **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        file, form, **options
    )
    return file.getvalue()


def exif_with_orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_give_the_pixels_back(form):
    out = images.decode(
        encode_image(noise(), form, **({"lossless": True} if form == "WEBP" else {}))
    )
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, noise())


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_applied(orientation, form):
    out = images.decode(encode_image(noise(), form, exif=exif_with_orientation(orientation)))
    np.testing.assert_array_equal(out, TURNS[orientation](noise()))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [*TURNS, 0, 9])
def test_dimensions_are_those_of_the_decoded_image(tmp_path, orientation, form):
    path = tmp_path / "a"
    path.write_bytes(encode_image(noise(), form, exif=exif_with_orientation(orientation)))
    height, width, _ = images.decode(path).shape
    assert images.read_dimensions(path) == (width, height)


def test_a_jpeg_on_its_side():
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:, :16] = 255
    out = images.decode(encode_image(stored, "JPEG", exif=exif_with_orientation(6), quality=95))
    assert out.shape == (32, 16, 3)
    assert out[:14].mean() > 250
    assert out[18:].mean() < 5


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_gray_is_scaled_to_eight(form):
    deep = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    assert Image.open(io.BytesIO(encode_image(deep, form))).mode == "I;16"
    out = images.decode(encode_image(deep, form))
    np.testing.assert_array_equal(out, np.arange(256).reshape(16, 16, 1).repeat(3, 2))


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr"])
def test_other_modes_become_rgb(mode):
    rgb = np.full((6, 8, 3), 255, np.uint8)
    rgb[:, 4:] = 0
    form = {"CMYK": "TIFF", "YCbCr": "JPEG"}.get(mode, "PNG")
    data = encode_image(Image.fromarray(rgb).convert(mode), form)
    assert Image.open(io.BytesIO(data)).mode == ("RGB" if form == "JPEG" else mode)
    out = images.decode(data)
    assert np.abs(out.astype(int) - rgb).max() <= 40 * (form == "JPEG")
    assert out.shape == (6, 8, 3)


def test_palette_colors_are_looked_up():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putdata([0, 1])
    assert images.decode(encode_image(image)).tolist() == [[[10, 20, 30], [200, 100, 0]]]


def test_a_cmyk_jpeg():
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red
    out = images.decode(encode_image(ink, "JPEG", quality=95))
    assert np.abs(out.astype(int) - (255, 0, 0)).max() < 10


def test_transparency_is_laid_on_white():
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = 0, 128, 255
    gray = 255 - 128
    assert images.decode(encode_image(rgba))[0, :, 0].tolist() == [255, gray, 0]
    transparent = Image.new("P", (2, 1))
    transparent.putpalette([0, 0, 0, 9, 9, 9])
    transparent.putdata([0, 1])
    assert images.decode(encode_image(transparent, transparency=0))[0, :, 0].tolist() == [255, 9]


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1)])
def test_images_one_pixel_high_or_wide(shape):
    np.testing.assert_array_equal(images.decode(encode_image(noise(*shape))), noise(*shape))


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "lime", "blue")]
    data = encode_image(frames[0], "GIF", save_all=True, append_images=frames[1:])
    image: Any = Image.open(io.BytesIO(data))
    assert image.n_frames == 3
    assert (images.decode(data) == (255, 0, 0)).all()


def test_bytes_and_path_agree(tmp_path):
    for form in ("PNG", "JPEG", "GIF"):
        path = tmp_path / f"été {form}"
        path.write_bytes(encode_image(noise(), form))
        for source in (path, str(path)):
            np.testing.assert_array_equal(images.decode(source), images.decode(path.read_bytes()))


@pytest.mark.parametrize("content", [b"", b"not a photo", b"\xff\xd8\xff", b"GIF89a", b"%PDF-1.4"])
def test_a_file_that_is_not_an_image_is_refused_by_name(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.jpg"):
        images.decode(path)
    with pytest.raises(ImageError, match=f"image of {len(content)} bytes"):
        images.decode(content)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ImageError, match=r"no such file: .*gone\.png"):
        images.decode(tmp_path / "gone.png")
    with pytest.raises(ImageError, match=tmp_path.name):
        images.decode(tmp_path)
    with pytest.raises(ImageError):
        images.decode("a\0b.png")


FORMS = ["JPEG", "PNG", "BMP", "WEBP", "TIFF"]


@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_file_is_never_half_an_image(form):
    data = encode_image(noise(24, 32), form)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for size in range(0, len(data) - 24, 29):  # a PNG is whole without its last chunks
            with pytest.raises(ImageError):
                images.decode(data[:size])


@pytest.mark.parametrize("form", [*FORMS, "GIF"])
def test_a_damaged_file_is_an_image_or_an_image_error(form):
    exif = {"exif": exif_with_orientation(6)} if form in ("JPEG", "PNG", "WEBP") else {}
    data = encode_image(noise(24, 32), form, **exif)
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(data)
        for place in rng.integers(0, min(len(data), 160), rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                out = images.decode(bytes(damaged))
        except ImageError:
            continue
        assert out.dtype == np.uint8
        assert out.shape[2:] == (3,)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_a_damaged_avif_is_an_image_error(tmp_path):
    """Its plugin raises RuntimeError."""
    data = encode_image(noise(24, 32), "AVIF")
    pixels = data.index(b"mdat") + 4
    path = tmp_path / "m.jpg"
    path.write_bytes(data[:pixels] + bytes(len(data) - pixels))
    with pytest.raises(ImageError, match=r"cannot decode .*m\.jpg"):
        images.decode(path)


@pytest.mark.parametrize("form", ["EPS", "DDS", "ICO"])
def test_formats_other_than_photos_are_refused(form):
    """To read EPS, Pillow would run Ghostscript."""
    with pytest.raises(ImageError, match=r"(?s)not an image.*expected: *JPEG, PNG"):
        images.decode(encode_image(noise(24, 32), form))


def test_a_phones_jpeg_of_two_images():
    data = encode_image(noise(), "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    assert images.decode(data).shape == (5, 7, 3)


@pytest.mark.parametrize(("error", "raised"), [(AttributeError, ImageError), (MemoryError,) * 2])
def test_a_lack_of_memory_is_not_an_image_error(monkeypatch, error, raised):
    def load(self):
        raise error

    data = encode_image(noise(), "BMP")
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(raised):
        images.decode(data)


def test_too_many_pixels_are_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageError, match="too many pixels"):
        images.decode(encode_image(noise(5, 7)))


@pytest.mark.parametrize("kind", [26, 84])  # type of a tag that holds text: none of text
def test_a_damaged_tag_does_not_lose_the_image(kind):
    exif = exif_with_orientation(6)
    exif[0x010F] = "maker"
    data = bytearray(encode_image(noise(), "JPEG", exif=exif))
    data[data.index(b"\x01\x0f\x00\x02") + 3] = kind
    assert images.decode(bytes(data)).shape == (7, 5, 3)


def test_resize_takes_height_and_width():
    out = images.resize(noise(), 4, 3, "bicubic")
    assert out.shape == (3, 4, 3)
    box = images.resize(noise(), 3, 2, "nearest", (2, 1, 5, 3))
    np.testing.assert_array_equal(box, noise()[1:3, 2:5])


def test_save_and_decode(tmp_path):
    images.save(noise(), tmp_path / "a.png")
    np.testing.assert_array_equal(images.decode(tmp_path / "a.png"), noise())


@pytest.mark.parametrize(
    ("side", "min_side", "expected"),
    [
        (512, 512, 512),
        (512, 257, 512),
        (512, 256, 256),
        (512, 100, 128),
        (512, 8, 64),
        (30, 64, 30),
    ],
)
def test_a_large_jpeg_keeps_the_smallest_side(side, min_side, expected):
    rows, columns = np.mgrid[:side, :side] * (255 / side)
    smooth = np.stack([rows, columns, 255 - rows], axis=2).astype(np.uint8)
    out = images.decode(encode_image(smooth, "JPEG", quality=95), min_side)
    assert out.shape == (expected, expected, 3)
    exact = images.resize(smooth, expected, expected, "bilinear")
    assert np.abs(out.astype(int) - exact).mean() < 2


def test_only_decoded_pixels_are_counted(monkeypatch):
    """A phone's JPEG of 108 million pixels is tagged; as many in another format are too many."""
    monkeypatch.setattr(images, "MAX_PIXELS", 500)
    large = noise(40, 40)
    assert images.decode(encode_image(large, "JPEG"), min_side=10).shape == (10, 10, 3)
    for data, min_side in ((encode_image(large, "JPEG"), None), (encode_image(large), 10)):
        with pytest.raises(ImageError, match=r"(?s)too many pixels.*got: *40 x 40.*at most"):
            images.decode(data, min_side)


def test_a_large_image_gives_no_warning():
    code = (
        "import sys; from PIL import Image; from patchct_edge import images;"
        "Image.MAX_IMAGE_PIXELS = 30; print(images.decode(sys.stdin.buffer.read()).shape)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], input=encode_image(noise()), capture_output=True, check=True
    )
    assert (process.stdout, process.stderr) == (b"(5, 7, 3)\n", b"")


@pytest.mark.parametrize("profile", [b"", b"no profile", bytes(200)], ids=["none", "text", "zeros"])
def test_a_color_profile_is_not_read(profile):
    plain = images.decode(encode_image(noise(), "JPEG"))
    np.testing.assert_array_equal(
        images.decode(encode_image(noise(), "JPEG", icc_profile=profile)), plain
    )


def test_a_pgm_of_sixteen_bits_is_scaled_to_eight():
    gray = np.linspace(0, 65535, 64).astype(">u2").reshape(8, 8)
    out = images.decode(b"P5 8 8 65535\n" + gray.tobytes())
    np.testing.assert_array_equal(out[..., 0], gray // 256)


def test_small_integers_are_not_scaled():
    image = Image.fromarray(np.arange(256, dtype=np.int32).reshape(16, 16))
    np.testing.assert_array_equal(
        images.decode(encode_image(image, "TIFF"))[..., 1].reshape(-1), range(256)
    )


def test_encoded_bytes_can_be_decoded():
    rgb = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    np.testing.assert_array_equal(images.decode(images.encode(rgb, "PNG")), rgb)
    assert images.encode(rgb, "JPEG").startswith(b"\xff\xd8")
