"""TensorRT engines on a GPU: `pytest -m gpu`, skipped where there is none.

    PATCHCT_BUNDLE=voc.patchct PATCHCT_DATA=voc/labels.csv pytest -m gpu

names a trained bundle and real photos; without them the accuracy is not looked at.
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
MEGABYTE = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def gpu():
    try:
        query_device()
        return import_tensorrt()
    except EngineError as error:
        pytest.skip(f"no GPU to run on: {error}")


@pytest.fixture(scope="module")
def tiny(gpu, write_bundle, tmp_path_factory):
    """The smallest bundle, with an FP16 engine."""
    bundle = write_bundle(tmp_path_factory.mktemp("gpu") / "tiny.patchct", ("fp32", "fp16"))
    compile_engine(gpu, Bundle(bundle), "fp16", BATCHES, lambda *step: None)
    return Bundle(bundle)


@pytest.fixture(scope="module")
def trained(gpu, tmp_path_factory):
    """The bundle of the environment, with FP16 and INT8 engines, and its photos."""
    if "PATCHCT_BUNDLE" not in os.environ or "PATCHCT_DATA" not in os.environ:
        pytest.skip("PATCHCT_BUNDLE and PATCHCT_DATA name no trained bundle and photos")
    bundle = tmp_path_factory.mktemp("gpu") / "trained.patchct"
    shutil.copytree(os.environ["PATCHCT_BUNDLE"], bundle)
    for precision in ("fp16", "int8"):
        compile_engine(gpu, Bundle(bundle), precision, BATCHES, lambda *step: None)
    data = read_dataset(
        Path(os.environ["PATCHCT_DATA"]), labels=Bundle(bundle).labels, prefer="val"
    )
    return Bundle(bundle), data


def scores_of(bundle, data, engine, precision, limit=None):
    preprocessing = bundle.preprocessing
    images = np.stack([preprocessing.read(path) for path in data.paths[:limit]])
    with open_engine(bundle, EngineRequest(engine, precision)) as running:
        parts = [running.infer(images[n : n + 32]).logits for n in range(0, len(images), 32)]
    return bundle.calibration(precision).scores(np.concatenate(parts))


def test_fp16_scores_are_those_of_the_fp32_graph(trained):
    bundle, data = trained
    found = scores_of(bundle, data, "tensorrt", "fp16", 200)
    np.testing.assert_allclose(
        found, scores_of(bundle, data, "onnxruntime", "fp32", 200), atol=1e-2
    )


@pytest.mark.parametrize(("precision", "drop"), [("fp16", 0.002), ("int8", 0.005)])
def test_map_is_that_of_the_fp32_graph(trained, precision, drop):
    bundle, data = trained
    found = {}
    for engine, kind in (("tensorrt", precision), ("onnxruntime", "fp32")):
        with open_engine(bundle, EngineRequest(engine, kind)) as running:
            said = predict(running, bundle.preprocessing, data)
            found[engine] = compute_accuracy(said, bundle.calibration(kind)).map
    assert found["onnxruntime"] - found["tensorrt"] <= drop


def test_a_batch_is_what_its_pictures_are_alone(tiny):
    size = tiny.preprocessing.size
    images = np.random.default_rng(0).integers(0, 256, (70, size, size, 3), dtype=np.uint8)
    with open_engine(tiny, EngineRequest("tensorrt", "fp16")) as engine:
        together = engine.infer(images).logits
        alone = np.concatenate([engine.infer(image[None]).logits for image in images])
    np.testing.assert_allclose(together, alone, atol=2e-2)


def test_ten_thousand_inferences_leak_nothing(tiny):
    size = tiny.preprocessing.size
    images = np.zeros((8, size, size, 3), np.uint8)
    with open_engine(tiny, EngineRequest("tensorrt", "fp16")) as engine:
        for _ in range(200):
            engine.infer(images)
        before = free_on_gpu(), resident()
        for _ in range(10_000):
            engine.infer(images)
        after = free_on_gpu(), resident()
    assert before[0] - after[0] < MEGABYTE
    assert after[1] - before[1] < 16 * MEGABYTE


def test_opening_and_closing_a_hundred_times_leaks_nothing(tiny):
    for n in range(105):
        with open_engine(tiny, EngineRequest("tensorrt", "fp16")) as engine:
            engine.infer(np.zeros((1, engine.size, engine.size, 3), np.uint8))
            if n == 5:  # the library's own start is behind
                before = free_on_gpu(), resident()
            last = free_on_gpu(), resident()
    assert before[0] - last[0] < 8 * MEGABYTE
    assert last[1] - before[1] < 64 * MEGABYTE


def free_on_gpu():
    """Bytes of device memory that are free, as the current context sees them."""
    from cuda.bindings import driver

    error, free, _ = driver.cuMemGetInfo()
    assert error == driver.CUresult.CUDA_SUCCESS
    return free


def resident():
    """Bytes of main memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
