"""A tiny engine graph, bundles made from it, and photos of plain colours; nothing is fetched."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from patchct_edge import images
from patchct_edge.bundle import (
    CALIBRATION,
    Manifest,
    fingerprint,
    model_name,
    write_manifest,
    written_aside,
)
from patchct_edge.preprocess import Recipe

LABELS = ("red", "green", "blue")
CHANNELS = np.eye(3, dtype=np.float32)


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Put what is cached for a user into a temporary folder."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def write_graph() -> Callable[..., Path]:
    """Write the smallest graph with an engine's input and outputs, for 8 x 8 pixels.

    Similarity is `weights` (3, M) times the mean colour, 0..1, of each of the 2 x 2 patches; a
    logit is 8 times the mean similarity, minus 4.
    """
    onnx = pytest.importorskip("onnx")
    make, FLOAT = onnx.helper, onnx.TensorProto.FLOAT

    def write(path: Path, weights: npt.ArrayLike = CHANNELS) -> Path:
        weights = np.asarray(weights, np.float32)
        constants = {
            "weights": weights, "white": np.float32(255), "gain": np.float32(8),
            "bias": np.float32(-4), "blocks": np.array([-1, 2, 4, 2, 4, 3]),
            "inner": np.array([2, 4]), "flat": np.array([-1, 4, 3]), "last": np.array([2]),
        }  # fmt: skip
        steps = [
            ("Cast", "image", "pixels", {"to": FLOAT}),
            ("Div", "pixels white", "scaled", {}),
            ("Reshape", "scaled blocks", "blocked", {}),
            ("ReduceMean", "blocked inner", "colours", {"keepdims": 0}),
            ("Reshape", "colours flat", "patches", {}),
            ("MatMul", "patches weights", "turned", {}),
            ("Transpose", "turned", "similarity", {"perm": [0, 2, 1]}),
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


@pytest.fixture(scope="session")
def write_bundle(write_graph: Callable[..., Path]) -> Callable[..., Path]:
    """Write a bundle whose labels red, green and blue follow the colour channels.

    All precisions hold the same graph. `weights` are those of the graph, `calibration` is the
    content of calibration.json, and any other argument is a field of the manifest.
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
            "labels": LABELS, "label_source": "learned", "recipe": Recipe(8), "tau": 0.1,
            "grid": (2, 2), "made_by": "tests", **changes,
        }  # fmt: skip
        values.setdefault("prompts", tuple(f"A {label} photo." for label in values["labels"]))
        with written_aside(target) as folder:
            for precision in precisions:
                graph = write_graph(folder / model_name(precision), weights)
            if calibration is not None:
                (folder / CALIBRATION).write_text(json.dumps(calibration), encoding="utf-8")
            model = fingerprint(graph, values["labels"], values["recipe"])
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
def colour_photo(tmp_path: Path) -> Callable[..., Path]:
    """Write a photo of one colour; `squares` maps (row, column) of 2 x 2 patches to others."""

    def write(
        name: str,
        colour: Sequence[int],
        squares: dict[tuple[int, int], Sequence[int]] | None = None,
    ) -> Path:
        rgb = np.full((8, 8, 3), colour, np.uint8)
        for (row, column), other in (squares or {}).items():
            rgb[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = other
        images.save(rgb, tmp_path / name)
        return tmp_path / name

    return write
