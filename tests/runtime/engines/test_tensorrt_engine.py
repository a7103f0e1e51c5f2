"""TensorRTEngine with a fake library and a fake GPU: shapes, order, cleanup, errors."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest

from patchct_edge.errors import EngineError
from patchct_edge.runtime.engines.base import EngineRecord
from patchct_edge.runtime.engines.tensorrt.engine import TensorRTEngine
from patchct_edge.runtime.engines.tensorrt.memory import DeviceMemory

SIZE, M, N = 4, 3, 5
RECORD = EngineRecord("tensorrt", "fp16", "fp16", "fake 10.3", "no GPU")


class FakeMemory(DeviceMemory):
    """A GPU in a dictionary that runs its queue only when someone waits."""

    def __init__(self, free_bytes=10**9):
        self.stream, self.free_bytes, self.device, self.queue = 7, free_bytes, {}, []
        self.closed = 0

    def allocate_device(self, size):
        if size > self.free_bytes:
            raise MemoryError
        self.free_bytes -= size
        address = 1000 + len(self.device)
        self.device[address] = np.zeros(size, np.uint8)
        return address

    def allocate_pinned(self, size):
        return np.zeros(size, np.uint8)

    def copy_in(self, address, host):
        self.queue.append(lambda: self.device[address].__setitem__(slice(len(host)), host))

    def copy_out(self, host, address):
        self.queue.append(lambda: host.__setitem__(slice(None), self.device[address][: len(host)]))

    def record_event(self):
        return len(self.queue)

    def wait(self, event):
        for n in range(event):
            if self.queue[n] is not None:
                self.queue[n]()
                self.queue[n] = None

    def close(self):
        self.closed += 1


class FakeContext:
    """Computes logits as channel means, and similarity as the mean of the image."""

    def __init__(self, memory, outputs, failing):
        self.memory, self.outputs, self.failing, self.addresses = memory, outputs, failing, {}
        self.batch_sizes = []

    def set_input_shape(self, name, shape):
        self.shape = shape
        return True

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        assert stream == self.memory.stream
        self.batch_sizes.append(self.shape[0])
        if self.failing:
            return False
        shape, addresses = self.shape, dict(self.addresses)
        self.memory.queue.append(lambda: self._compute(shape, addresses))
        return True

    def _compute(self, shape, addresses):
        images = self.memory.device[addresses["image"]][: np.prod(shape)].reshape(shape)
        means = images.mean(axis=(1, 2), dtype=np.float32)
        similarity = np.repeat(means.mean(1)[:, None, None], M, 1).repeat(N, 2)
        for name, values in (("logits", means), ("similarity", similarity)):
            if name in self.outputs:
                raw = np.ascontiguousarray(values, np.float32).view(np.uint8).reshape(-1)
                self.memory.device[addresses[name]][: len(raw)] = raw


class FakeTensorRT:
    """A TensorRT library that knows one engine."""

    def __init__(
        self, batches=(1, 2, 4), outputs=("logits",), plan=b"plan", failing=False, free_bytes=10**9
    ):
        self.memory = FakeMemory(free_bytes)
        self.context: Any = FakeContext(self.memory, outputs, failing)
        names = ["image", *outputs]
        shapes = {"image": (-1, SIZE, SIZE, 3), "logits": (-1, M), "similarity": (-1, M, N)}
        engine = types.SimpleNamespace(
            num_io_tensors=len(names),
            get_tensor_name=names.__getitem__,
            get_tensor_shape=shapes.__getitem__,
            get_tensor_profile_shape=lambda name, n: [(b, SIZE, SIZE, 3) for b in batches],
            create_execution_context=lambda: self.context,
        )
        runtime = types.SimpleNamespace(
            deserialize_cuda_engine=lambda data: engine if data == plan else None
        )
        ilogger = type("ILogger", (), {"ERROR": 1, "INTERNAL_ERROR": 0})
        self.trt: Any = types.SimpleNamespace(
            __name__="tensorrt", Runtime=lambda logger: runtime, ILogger=ilogger
        )

    def open(self, plan=b"plan"):
        return TensorRTEngine(self.trt, plan, RECORD, self.memory)


def random_images(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def channel_means(images):
    return images.mean(axis=(1, 2), dtype=np.float32)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9, 23])
@pytest.mark.parametrize("batches", [(1, 2, 4), (3, 4, 4), (1, 1, 1)])
def test_a_batch_of_any_size_is_split_or_padded(count, batches):
    fake = FakeTensorRT(batches)
    with fake.open() as engine:
        outputs = engine.infer(random_images(count))
    np.testing.assert_allclose(outputs.logits, channel_means(random_images(count)), rtol=1e-6)
    assert outputs.similarity is None
    assert all(batches[0] <= size <= batches[2] for size in fake.context.batch_sizes)


def test_results_come_in_order_however_many_batches_are_in_flight():
    with FakeTensorRT().open() as engine:
        batches = [random_images(count, seed) for seed, count in enumerate((4, 1, 9, 2, 4, 3))]
        for images in batches:
            engine.submit(images)
            original = images.copy()
            images[:] = 0  # what was submitted may be overwritten
            images[:] = original
        for images in batches:
            np.testing.assert_allclose(engine.result().logits, channel_means(images), rtol=1e-6)


def test_similarity_is_returned_if_the_engine_has_it():
    with FakeTensorRT(outputs=("logits", "similarity")).open() as engine:
        similarity = engine.infer(random_images(5)).similarity
    assert similarity.shape == (5, M, N)
    np.testing.assert_allclose(
        similarity[:, 1, 2], channel_means(random_images(5)).mean(1), rtol=1e-6
    )


def test_size_labels_and_best_batch_come_from_the_engine():
    with FakeTensorRT((1, 2, 4)).open() as engine:
        assert (engine.size, engine.label_count, engine.best_batch) == (SIZE, M, 2)
        assert engine.concurrency == 2


def test_closing_twice_with_a_batch_in_flight_frees_the_memory():
    fake = FakeTensorRT()
    engine = fake.open()
    engine.submit(random_images(3))
    engine.close()
    engine.close()
    assert fake.memory.closed == 2


@pytest.mark.parametrize(
    ("fake", "plan", "message"),
    [
        (FakeTensorRT(), b"other", r"(?s)refuses the engine.*patchct compile"),
        (FakeTensorRT(free_bytes=100), b"plan", r"(?s)too little memory.*batches of 4.*--batch 2"),
    ],
)
def test_an_engine_that_does_not_open_frees_the_memory(fake, plan, message):
    with pytest.raises(EngineError, match=message):
        fake.open(plan)
    assert fake.memory.closed


def test_a_gpu_that_the_library_does_not_support_is_reported_with_the_fix():
    """The message is that of TensorRT for RTX 1.7 on an H100."""
    fake = FakeTensorRT()

    def create_runtime(logger):
        def refuse(data):
            message = "The runtime does not support this compute capability 9.0. Supported: 8.0 8.6"
            logger.log(logger.ERROR, message)

        return types.SimpleNamespace(deserialize_cuda_engine=refuse)

    fake.trt.Runtime = create_runtime
    with pytest.raises(EngineError, match=r"(?s)capability 9.0.*--engine openvino"):
        fake.open()


def test_an_engine_without_an_execution_context_does_not_open():
    fake = FakeTensorRT()
    fake.context = None
    with pytest.raises(EngineError, match="too little memory"):
        fake.open()
    assert fake.memory.closed


def test_a_failing_batch_raises_and_the_next_one_runs():
    fake = FakeTensorRT(failing=True)
    with fake.open() as engine:
        with pytest.raises(EngineError, match="did not run"):
            engine.infer(random_images(2))
        fake.context.failing = False
        np.testing.assert_allclose(
            engine.infer(random_images(2)).logits, channel_means(random_images(2)), rtol=1e-6
        )
