"""Feed damaged files to every reader of untrusted files: each must read or refuse them.

    python tests/support/fuzzing.py --minutes 10 [TARGET ...]

Input n of a target is always the same. `fuzz-TARGET.txt` holds the number of the current input
until the end, so that an input that kills the process can be found: `--from N --minutes 0` repeats
it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from patchct_edge import images
from patchct_edge.bundle import Bundle, Calibration, Manifest, Preprocessing
from patchct_edge.bundle.manifest import Stage, compute_fingerprint
from patchct_edge.datasets import read_boxes, read_dataset
from patchct_edge.errors import UserError

TOKENS = [
    b"",
    b"\0",
    b"\xff",
    b"\xfe\xff",
    b"\xef\xbb\xbf",
    b'"',
    b"'",
    b",",
    b";",
    b"\t",
    b"|",
    b"\n",
    b"\r",
    b"{",
    b"}",
    b"[",
    b"]",
    b"<",
    b">",
    b"&",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"NaN",
    b"9" * 5000,
    b"{}",
    b"[]",
    b'""',
    b"../",
    b"/dev/zero",
    b"sep=;\n",
    b"<object>",
    b"[" * 2000,
    b"\\ud800",
    b"<!DOCTYPE x>",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\x80",
    b"\xed\xa0\x80",
]


def mutate(seeds: Sequence[bytes], n: int) -> bytes:
    """Return a seed with one to eight damages, the same for the same n."""
    rng = random.Random(n)
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((1, 1, 2, 4, 16, 200)))
        kind = rng.randrange(7)
        if kind == 0 and start < len(data):
            data[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[start:end] = rng.randbytes(end - start)
        elif kind == 2:
            del data[start:end]
        elif kind == 3:
            data[start:start] = data[start:end] * rng.choice((1, 2, 50))
        elif kind == 4:
            data[start : start + rng.choice((0, 1, 4))] = rng.choice(TOKENS)
        elif kind == 5:
            other = rng.choice(seeds)
            other_start = rng.randrange(len(other) + 1)
            data[start:end] = other[other_start : other_start + 64]
        elif rng.random() < 0.3:
            del data[start:]
    return bytes(data)


def make_images() -> list[bytes]:
    """Return small images in every format and mode that this Pillow can write."""
    rgb = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    plain = Image.fromarray(rgb)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    animated = {"save_all": True, "append_images": [plain.rotate(90), plain.rotate(180)]}
    forms: list[tuple[Image.Image, str, dict[str, object]]] = [
        (plain, "JPEG", {"exif": rotated}),
        (plain, "JPEG", {"progressive": True}),
        (plain.convert("CMYK"), "JPEG", {}),
        (plain.convert("L"), "JPEG", {}),
        (plain.resize((320, 240)), "JPEG", {"quality": 50}),
        (plain, "PNG", {}),
        (plain.convert("P"), "PNG", {"transparency": 3}),
        (plain, "PNG", animated),
        (plain.convert("RGBA"), "PNG", {"exif": rotated}),
        (plain.convert("1"), "PNG", {}),
        (Image.fromarray(rgb[..., 0].astype(np.uint16) * 200), "PNG", {}),
        (plain, "GIF", animated),
        (plain, "WEBP", {"lossless": True}),
        (plain, "WEBP", animated),
        (plain, "TIFF", {}),
        (plain, "TIFF", {"compression": "tiff_lzw"}),
        (plain, "TIFF", {"compression": "jpeg"}),
        (plain.convert("CMYK"), "TIFF", {}),
        *((plain, form, {}) for form in ("BMP", "PPM", "AVIF", "JPEG2000", "MPO", "EPS")),
    ]
    encoded_images = []
    for image, form, options in forms:
        file = io.BytesIO()
        try:
            image.save(file, form, **options)
        except (OSError, KeyError):
            continue  # a codec that this Pillow lacks
        encoded_images.append(file.getvalue())
    return encoded_images


def decode_image(data: bytes, folder: Path) -> None:
    min_side = (None, 8, 448)[len(data) % 3]
    rgb = images.decode(data, min_side)
    assert rgb.dtype == np.uint8
    assert rgb.ndim == 3
    assert rgb.shape[2] == 3
    assert rgb.size


def make_manifests() -> list[bytes]:
    """Return a manifest that fits the bundle of `read_manifest`."""
    labels, preprocessing = ("cat", "Hund"), Preprocessing(8)
    files = {"model.fp32.onnx": "graph", "calibration.json": CALIBRATION.decode()}
    files = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
    stage = Stage("fp32", "graph", "openvino", 9, 0.0, 0.0, 0.0, map=0.9)
    manifest = Manifest(
        labels=labels,
        prompts=labels,
        label_encoder="learned",
        preprocessing=preprocessing,
        tau=0.1,
        grid=(2, 2),
        producer="tests",
        fingerprint=compute_fingerprint(
            files["model.fp32.onnx"], labels, preprocessing, 0.1, (2, 2)
        ),
        stages=(stage,),
        files=files,
    )
    return [json.dumps(manifest.to_json(), indent=2).encode()]


CALIBRATION = json.dumps({"fp32": Calibration.default(2).to_json(("cat", "Hund"))}).encode()


def read_manifest(data: bytes, folder: Path) -> None:
    """Read damaged bytes as the manifest of a bundle that is otherwise whole."""
    (folder / "model.fp32.onnx").write_bytes(b"graph")
    (folder / "calibration.json").write_bytes(CALIBRATION)
    (folder / "manifest.json").write_bytes(data)
    bundle = Bundle(folder)
    bundle.verify()
    bundle.calibration("fp32")
    bundle.graph_path("fp32")


def make_calibrations() -> list[bytes]:
    return [CALIBRATION]


def read_calibration(data: bytes, folder: Path) -> None:
    """Read damaged bytes as a calibration whose hash the manifest names."""
    manifest = json.loads(make_manifests()[0])
    manifest["files"]["calibration.json"] = hashlib.sha256(data).hexdigest()
    (folder / "calibration.json").write_bytes(data)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    calibration = Bundle(folder).calibration("fp32")
    assert calibration.thresholds.shape == (2,)


def make_tables() -> list[bytes]:
    return [
        b"image,labels,split,difficult\na.jpg,dog|cat,train,cat\nb.jpg,,val,\n",
        b'\xef\xbb\xbf"image";"labels"\r\n"a.jpg";"dog ""big"""\r\n',
        "sep=;\r\nimage;labels\r\na.jpg;piñata\r\n".encode("utf-16"),
    ]


def make_coco_files() -> list[bytes]:
    return [
        json.dumps(
            {
                "images": [
                    {"id": 1, "file_name": "a.jpg"},
                    {"id": 2, "file_name": "b.jpg", "split": "val"},
                ],
                "categories": [{"id": 7, "name": "dog"}, {"id": 9, "name": "cat"}],
                "annotations": [
                    {"id": 1, "image_id": 1, "category_id": 7},
                    {"id": 2, "image_id": 1, "category_id": 9, "iscrowd": 1},
                ],
            }
        ).encode()
    ]


def make_annotations() -> list[bytes]:
    entry = "<object><name>dog</name><difficult>{}</difficult></object>"
    text = f"<annotation><filename>a.jpg</filename>{entry.format(0)}{entry.format(1)}</annotation>"
    return [text.encode(), b'<?xml version="1.0" encoding="utf-8"?>\n' + text.encode()]


def read_as_dataset(name: str) -> Callable[[bytes, Path], None]:
    """Return a function that reads damaged bytes as the file `name` of a dataset."""

    def read(data: bytes, folder: Path) -> None:
        for photo in ("a.jpg", "b.jpg", "JPEGImages/a.jpg"):
            (folder / photo).parent.mkdir(exist_ok=True)
            (folder / photo).touch()
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
        dataset = read_dataset(folder if name.startswith("Annotations") else file)
        dataset.build_targets()
        dataset.fingerprint()

    return read


def make_box_tables() -> list[bytes]:
    return [
        b"image,label,xmin,ymin,xmax,ymax,difficult\na.jpg,dog,0,0.1,0.5,1,1\nb.jpg,cat,0,0,1,1,\n",
        b'\xef\xbb\xbf"image";"label";"xmin";"ymin";"xmax";"ymax"\r\n"a.jpg";dog;.1;.1;.2;.2\r\n',
    ]


def read_box_table(data: bytes, folder: Path) -> None:
    (folder / "boxes.csv").write_bytes(data)
    for boxes in read_boxes(folder / "boxes.csv", ("dog", "cat")).values():
        for box in boxes:
            assert 0 <= box.xmin < box.xmax <= 1
            assert 0 <= box.ymin < box.ymax <= 1


TARGETS: dict[str, tuple[Callable[[], list[bytes]], Callable[[bytes, Path], None]]] = {
    "decode": (make_images, decode_image),
    "manifest": (make_manifests, read_manifest),
    "calibration": (make_calibrations, read_calibration),
    "csv": (make_tables, read_as_dataset("labels.csv")),
    "boxes": (make_box_tables, read_box_table),
    "coco": (make_coco_files, read_as_dataset("coco.json")),
    "voc": (make_annotations, read_as_dataset("Annotations/a.xml")),
}


def try_input(name: str, n: int, seeds: Sequence[bytes], folder: Path) -> str:
    """Try input n; return "read" or the name of the user error. Other errors are raised."""
    try:
        TARGETS[name][1](mutate(seeds, n), folder)
    except UserError as error:
        return type(error).__name__
    except Exception as error:
        raise RuntimeError(f"input {n} of {name}: {error!r}") from error
    return "read"


def main() -> None:
    """Fuzz each target for some minutes; print a summary of the inputs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=" ".join(TARGETS))
    parser.add_argument("--minutes", type=float, default=10, help="for each target")
    parser.add_argument("--from", dest="first", type=int, default=0, help="number of the first")
    args = parser.parse_args()
    for name in args.targets or TARGETS:
        seeds, outcomes, slowest, n = TARGETS[name][0](), Counter[str](), 0.0, args.first
        begin = time.monotonic()
        progress_file = Path(f"fuzz-{name}.txt")
        with tempfile.TemporaryDirectory() as folder, progress_file.open("w") as current:
            while n == args.first or time.monotonic() - begin < 60 * args.minutes:
                os.pwrite(current.fileno(), f"{n:12}".encode(), 0)
                start = time.monotonic()
                outcomes[try_input(name, n, seeds, Path(folder))] += 1
                slowest = max(slowest, time.monotonic() - start)
                n += 1
        progress_file.unlink()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{name}: {n - args.first} inputs, {dict(outcomes)}, slowest {slowest:.2f} s, "
            f"peak memory {peak:.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
