"""TensorRT engines on a GPU: `pytest -m gpu`, skipped without one.

    PATCHCT_BUNDLE=voc.patchct PATCHCT_DATA=voc/labels.csv pytest -m gpu

names a trained bundle and real photos; without them, the accuracy is not tested.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from patchct_edge.bundle import Bundle
from patchct_edge.datasets import read_dataset
from patchct_edge.errors import EngineError
from patchct_edge.evaluation.accuracy import compute_accuracy
from patchct_edge.evaluation.predictions import predict
from patchct_edge.runtime.engines.select import EngineRequest, open_engine
from patchct_edge.runtime.engines.tensorrt.build import BuildOptions
from patchct_edge.runtime.engines.tensorrt.compile import compile_engine
from patchct_edge.runtime.engines.tensorrt.library import import_tensorrt, query_device

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.timeout(1800)]
BATCHES = BuildOptions((1, 8, 32))
MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def gpu():
    try:
        query_device()
        return import_tensorrt()
    except EngineError as error:
        pytest.skip(f"no GPU to run on: {error}")


@pytest.fixture(scope="module")
def tiny(gpu, write_bundle, tmp_path_factory):
    """A tiny bundle with an FP16 engine."""
    bundle = write_bundle(tmp_path_factory.mktemp("gpu") / "tiny.patchct", ("fp32", "fp16"))
    compile_engine(gpu, Bundle(bundle), "fp16", BATCHES)
    return Bundle(bundle)


@pytest.fixture(scope="module")
def trained(gpu, tmp_path_factory):
    """The bundle that the environment names, with FP16 and INT8 engines, and its photos."""
    if "PATCHCT_BUNDLE" not in os.environ or "PATCHCT_DATA" not in os.environ:
        pytest.skip("set PATCHCT_BUNDLE and PATCHCT_DATA to a trained bundle and photos")
    bundle = tmp_path_factory.mktemp("gpu") / "trained.patchct"
    shutil.copytree(os.environ["PATCHCT_BUNDLE"], bundle)
    for precision in ("fp16", "int8"):
        compile_engine(gpu, Bundle(bundle), precision, BATCHES)
    dataset = read_dataset(
        Path(os.environ["PATCHCT_DATA"]), labels=Bundle(bundle).labels, default_split="val"
    )
    return Bundle(bundle), dataset


def compute_scores(bundle, dataset, engine, precision, limit=None):
    preprocessing = bundle.preprocessing
    images = np.stack([preprocessing.read(path) for path in dataset.paths[:limit]])
    with open_engine(bundle, EngineRequest(engine, precision)) as opened:
        logits = [opened.infer(images[n : n + 32]).logits for n in range(0, len(images), 32)]
    return bundle.calibration(precision).scores(np.concatenate(logits))


def test_fp16_scores_match_the_fp32_graph(trained):
    bundle, dataset = trained
    scores = compute_scores(bundle, dataset, "tensorrt", "fp16", 200)
    expected = compute_scores(bundle, dataset, "onnxruntime", "fp32", 200)
    np.testing.assert_allclose(scores, expected, atol=1e-2)


@pytest.mark.parametrize(("precision", "max_drop"), [("fp16", 0.002), ("int8", 0.005)])
def test_map_matches_the_fp32_graph(trained, precision, max_drop):
    """mAP, the mean over labels of the average precision, drops by at most `max_drop` (0..1)."""
    bundle, dataset = trained
    maps = {}
    for engine, engine_precision in (("tensorrt", precision), ("onnxruntime", "fp32")):
        with open_engine(bundle, EngineRequest(engine, engine_precision)) as opened:
            predictions = predict(opened, bundle.preprocessing, dataset)
        maps[engine] = compute_accuracy(predictions, bundle.calibration(engine_precision)).map
    assert maps["onnxruntime"] - maps["tensorrt"] <= max_drop


def test_a_batch_gives_the_same_logits_as_single_images(tiny):
    size = tiny.preprocessing.size
    images = np.random.default_rng(0).integers(0, 256, (70, size, size, 3), dtype=np.uint8)
    with open_engine(tiny, EngineRequest("tensorrt", "fp16")) as engine:
        batched = engine.infer(images).logits
        single = np.concatenate([engine.infer(image[None]).logits for image in images])
    np.testing.assert_allclose(batched, single, atol=2e-2)


def test_ten_thousand_inferences_leak_no_memory(tiny):
    size = tiny.preprocessing.size
    images = np.zeros((8, size, size, 3), np.uint8)
    with open_engine(tiny, EngineRequest("tensorrt", "fp16")) as engine:
        for _ in range(200):
            engine.infer(images)
        before = free_gpu_bytes(), resident_bytes()
        for _ in range(10_000):
            engine.infer(images)
        after = free_gpu_bytes(), resident_bytes()
    assert before[0] - after[0] < MIB
    assert after[1] - before[1] < 16 * MIB


def test_opening_and_closing_a_hundred_times_leaks_no_memory(tiny):
    for n in range(105):
        with open_engine(tiny, EngineRequest("tensorrt", "fp16")) as engine:
            engine.infer(np.zeros((1, engine.size, engine.size, 3), np.uint8))
            if n == 5:  # after the library's own start-up
                before = free_gpu_bytes(), resident_bytes()
            last = free_gpu_bytes(), resident_bytes()
    assert before[0] - last[0] < 8 * MIB
    assert last[1] - before[1] < 64 * MIB


def free_gpu_bytes():
    """Return the free bytes of device memory, as the current context sees them."""
    from cuda.bindings import driver

    error, free, _ = driver.cuMemGetInfo()
    assert error == driver.CUresult.CUDA_SUCCESS
    return free


def resident_bytes():
    """Return the bytes of main memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
