"""A tiny engine graph, bundles that hold it, photos of one color, and a tiny model that is
trained and exported through the command line; nothing is downloaded."""

from __future__ import annotations

import csv
import json
import pwd
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pytest

from patchct_edge import images
from patchct_edge.bundle import Manifest, Preprocessing
from patchct_edge.bundle.bundle import CALIBRATION_NAME
from patchct_edge.bundle.manifest import compute_fingerprint
from patchct_edge.bundle.precisions import graph_name
from patchct_edge.bundle.write import create_bundle, write_manifest
from patchct_edge.files import sha256

LABELS = ("red", "green", "blue")
CHANNELS = np.eye(3, dtype=np.float32)
SQUARES = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}
QUICK = {
    "dim": 16,
    "batch_size": 8,
    "lr_backbone": 4e-3,
    "lr_head": 5e-3,
    "precision": "fp32",
    "ema_decay": 0.9,
    "crop_scale": 1,
    "layer_decay": 1,
    "warmup": 0.1,
}


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Move the cache and state folders into a temporary folder; allow no network."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield folder


@pytest.fixture(scope="session")
def write_graph() -> Callable[..., Path]:
    """Write the smallest graph with an engine's input and outputs, for 8 x 8 pixels.

    Similarity is `weights` (3, M) times the mean color, 0..1, of each of the 2 x 2 patches; a
    logit is 8 times the mean similarity, minus 4.
    """
    onnx = pytest.importorskip("onnx")
    make, FLOAT = onnx.helper, onnx.TensorProto.FLOAT

    def write(path: Path, weights: npt.ArrayLike = CHANNELS) -> Path:
        weights = np.asarray(weights, np.float32)
        constants = {
            "weights": weights,
            "white": np.float32(255),
            "gain": np.float32(8),
            "bias": np.float32(-4),
            "blocks": np.array([-1, 2, 4, 2, 4, 3]),
            "inner": np.array([2, 4]),
            "flat": np.array([-1, 4, 3]),
            "last": np.array([2]),
        }
        steps = [
            ("Cast", "image", "pixels", {"to": FLOAT}),
            ("Div", "pixels white", "scaled", {}),
            ("Reshape", "scaled blocks", "blocked", {}),
            ("ReduceMean", "blocked inner", "colors", {"keepdims": 0}),
            ("Reshape", "colors flat", "patches", {}),
            ("MatMul", "patches weights", "patch_scores", {}),
            ("Transpose", "patch_scores", "similarity", {"perm": [0, 2, 1]}),
            ("ReduceMean", "similarity last", "mean", {"keepdims": 0}),
            ("Mul", "mean gain", "scores", {}),
            ("Add", "scores bias", "logits", {}),
        ]
        m = weights.shape[1]
        graph = make.make_graph(
            [make.make_node(op, i.split(), [o], **options) for op, i, o, options in steps],
            "tiny",
            [make.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["B", 8, 8, 3])],
            [
                make.make_tensor_value_info("logits", FLOAT, ["B", m]),
                make.make_tensor_value_info("similarity", FLOAT, ["B", m, 4]),
            ],
            [onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
        )
        opset = make.make_opsetid("", 20)
        onnx.save(make.make_model(graph, opset_imports=[opset], ir_version=10), path)
        return path

    return write


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user like that of some services: without HOME and without an entry in the user database."""

    def getpwuid(uid: int) -> NoReturn:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", getpwuid)


@pytest.fixture(scope="session")
def write_bundle(write_graph: Callable[..., Path]) -> Callable[..., Path]:
    """Write a bundle whose labels red, green and blue follow the color channels.

    All precisions hold the same graph. `weights` are those of the graph, `calibration` is the
    content of calibration.json, and every other argument is a field of the manifest.
    """

    def write(
        target: Path,
        precisions: Sequence[str] = ("fp32",),
        *,
        weights: npt.ArrayLike = CHANNELS,
        calibration: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Path:
        values = {
            "labels": LABELS,
            "label_encoder": "learned",
            "preprocessing": Preprocessing(8),
            "tau": 0.1,
            "grid": (2, 2),
            "producer": "tests",
            **changes,
        }
        values.setdefault("prompts", tuple(f"A {label} photo." for label in values["labels"]))
        with create_bundle(target) as folder:
            for precision in precisions:
                graph = write_graph(folder / graph_name(precision), weights)
            if calibration is not None:
                (folder / CALIBRATION_NAME).write_text(json.dumps(calibration), encoding="utf-8")
            model = compute_fingerprint(
                sha256(graph),
                *(values[name] for name in ("labels", "preprocessing", "tau", "grid")),
            )
            write_manifest(folder, Manifest(fingerprint=model, **values))
        return target

    return write


@pytest.fixture(scope="session")
def tiny_bundle(
    write_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bundle to read, in FP32; a test that changes a bundle writes its own."""
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny.patchct")


@pytest.fixture
def color_photo(tmp_path: Path) -> Callable[..., Path]:
    """Write a photo of one color; `squares` maps (row, column) of 2 x 2 patches to others."""

    def write(
        name: str,
        color: Sequence[int],
        squares: dict[tuple[int, int], Sequence[int]] | None = None,
    ) -> Path:
        rgb = np.full((8, 8, 3), color, np.uint8)
        for (row, column), other in (squares or {}).items():
            rgb[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = other
        images.save(rgb, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def run_cli() -> Callable[..., Any]:
    """Run a `patchct` command in this process and check its exit code; a bug raises.

    Returns the result of typer's runner: `stdout`, `stderr`, `output` (both) and `exit_code`.
    """
    from typer.testing import CliRunner

    from patchct_edge.cli import console
    from patchct_edge.cli.app import app

    console.out.width = console.err.width = 200  # a cell of a table stays on one line

    def run(*words: object, code: int = 0, stdin: str | bytes | None = None) -> Any:
        result = CliRunner().invoke(app, [*map(str, words)], stdin, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture(scope="session")
def write_squares() -> Callable[..., Path]:
    """Write `labels.csv` and photos of 32 x 32 pixels: gray noise with colored squares.

    The labels are the colors of the squares; every eighth photo has none. `splits` counts the
    photos of each split, and `name_format` makes a file name from a split and a number.
    """

    def write(folder: Path, name_format: str = "{}-{}.png", **splits: int) -> Path:
        (folder / name_format).parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        lines = ["image,labels,split"]
        for split, count in splits.items():
            for n in range(count):
                rgb = rng.integers(90, 160, (32, 32, 3), dtype=np.uint8)
                labels = [label for m, label in enumerate(SQUARES) if n % 8 >> m & 1]
                for label in labels:
                    row, column = 8 * rng.integers(0, 4), 8 * list(SQUARES).index(label)
                    rgb[row : row + 8, column : column + 8] = SQUARES[label]
                images.save(rgb, folder / name_format.format(split, n))
                lines.append(f"{name_format.format(split, n)},{'|'.join(labels)},{split}")
        (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder / "labels.csv"

    return write


@pytest.fixture(scope="session")
def convert_to_coco() -> Callable[[Path, Path], Path]:
    """Write the content of a CSV of colored squares as a COCO JSON."""

    def write(source: Path, target: Path) -> Path:
        with source.open(newline="") as file:
            rows = list(csv.DictReader(file))
        labels = [
            (n, list(SQUARES).index(label))
            for n, row in enumerate(rows)
            if row["labels"]
            for label in row["labels"].split("|")
        ]
        content = {
            "images": [{"id": n, "file_name": row["image"]} for n, row in enumerate(rows)],
            "categories": [{"id": m, "name": label} for m, label in enumerate(SQUARES)],
            "annotations": [
                {"id": k, "image_id": n, "category_id": m} for k, (n, m) in enumerate(labels)
            ],
        }
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(content))
        return target

    return write


@pytest.fixture(scope="session")
def squares(write_squares: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CSV of a dataset with 96 photos for training and 40 for validation."""
    return write_squares(tmp_path_factory.mktemp("photos"), train=96, val=40)


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random ViT: 32 pixels, patches of 8, width 32, 2 layers."""
    import torch
    import transformers

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
    )
    folder = tmp_path_factory.mktemp("encoder")
    transformers.ViTModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def label_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .npz table with random embeddings, 12 wide, of the colors."""
    path = tmp_path_factory.mktemp("table") / "table.npz"
    rows = np.random.default_rng(0).normal(size=(len(SQUARES), 12)).astype(np.float32)
    np.savez(path, names=np.array(list(SQUARES)), emb=rows)
    return path


@pytest.fixture(scope="session")
def train_cli(run_cli: Callable[..., Any], encoder_folder: Path) -> Callable[..., Any]:
    """Run `patchct train` with the tiny ViT and settings that learn in seconds."""
    settings = [word for name, value in QUICK.items() for word in ("--set", f"{name}={value}")]

    def train(data: Path, out: Path, *words: object, code: int = 0) -> Any:
        options = ("--out", out, "--image-encoder", encoder_folder, "--device", "cpu", *settings)
        return run_cli("train", data, *options, *words, code=code)

    return train


@pytest.fixture(scope="session")
def trained_run(
    train_cli: Callable[..., Any],
    squares: Path,
    label_table: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A run that knows the colors; its best epoch, the first of the same mAP, is not its last."""
    run = tmp_path_factory.mktemp("trained") / "run"
    train_cli(squares, run, "--label-encoder", label_table, "--epochs", 12)
    return run


@pytest.fixture(scope="session")
def export_cli(
    run_cli: Callable[..., Any],
    trained_run: Path,
    squares: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Any]:
    """The bundle of the run's last epoch, and the result of `patchct export`."""
    bundle = tmp_path_factory.mktemp("exported") / "squares.patchct"
    # INT8 differs among CPUs: the gates leave room for a few of the 60 tags.
    options = ("--checkpoint", "last", "--max-flips", 5, "--max-map-drop", 5)
    return bundle, run_cli(
        "export", trained_run, "--out", bundle, "--quant-data", squares, *options
    )


@pytest.fixture(scope="session")
def exported_bundle(export_cli: tuple[Path, Any]) -> Path:
    """A bundle in every precision of a model that knows the colors."""
    return export_cli[0]
