"""The TensorRT adapter against a fake library and a fake GPU: shapes, order, frees, errors."""

from __future__ import annotations

import types

import numpy as np
import pytest

from patchct_edge.errors import EngineError
from patchct_edge.runtime.engines.base import EngineRecord
from patchct_edge.runtime.engines.tensorrt.engine import TensorRTEngine
from patchct_edge.runtime.engines.tensorrt.memory import DeviceMemory

SIZE, M, N = 4, 3, 5
RECORD = EngineRecord("tensorrt", "fp16", "fp16", "fake 10.3", "no GPU")


class FakeMemory(DeviceMemory):
    """A GPU in a dictionary that works its queue off only when someone waits."""

    def __init__(self, room=10**9):
        self.stream, self.room, self.device, self.queue = 7, room, {}, []
        self.closed = 0

    def on_device(self, size):
        if size > self.room:
            raise MemoryError
        self.room -= size
        address = 1000 + len(self.device)
        self.device[address] = np.zeros(size, np.uint8)
        return address

    def pinned(self, size):
        return np.zeros(size, np.uint8)

    def copy_in(self, address, host):
        self.queue.append(lambda: self.device[address].__setitem__(slice(len(host)), host))

    def copy_out(self, host, address):
        self.queue.append(lambda: host.__setitem__(slice(None), self.device[address][: len(host)]))

    def mark(self):
        return len(self.queue)

    def wait(self, mark):
        for n in range(mark):
            if self.queue[n] is not None:
                self.queue[n]()
                self.queue[n] = None

    def close(self):
        self.closed += 1


class FakeContext:
    """Logits are means of channels, similarity is the mean of the picture."""

    def __init__(self, memory, outputs, fails):
        self.memory, self.outputs, self.fails, self.addresses = memory, outputs, fails, {}
        self.counts = []

    def set_input_shape(self, name, shape):
        self.shape = shape
        return True

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        assert stream == self.memory.stream
        self.counts.append(self.shape[0])
        if self.fails:
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


class Fake:
    """A TensorRT of one engine."""

    def __init__(
        self, batches=(1, 2, 4), outputs=("logits",), plan=b"plan", fails=False, room=10**9
    ):
        self.memory = FakeMemory(room)
        self.context = FakeContext(self.memory, outputs, fails)
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
        logger = type("ILogger", (), {"ERROR": 1, "INTERNAL_ERROR": 0})
        self.trt = types.SimpleNamespace(
            __name__="tensorrt", Runtime=lambda log: runtime, ILogger=logger
        )

    def open(self, plan=b"plan"):
        return TensorRTEngine(self.trt, plan, RECORD, self.memory)


def pictures(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def means(images):
    return images.mean(axis=(1, 2), dtype=np.float32)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9, 23])
@pytest.mark.parametrize("batches", [(1, 2, 4), (3, 4, 4), (1, 1, 1)])
def test_any_batch_is_split_or_padded(count, batches):
    fake = Fake(batches)
    with fake.open() as engine:
        found = engine.infer(pictures(count))
    np.testing.assert_allclose(found.logits, means(pictures(count)), rtol=1e-6)
    assert found.similarity is None
    assert all(batches[0] <= each <= batches[2] for each in fake.context.counts)


def test_results_come_in_order_however_many_are_under_way():
    with Fake().open() as engine:
        batches = [pictures(count, seed) for seed, count in enumerate((4, 1, 9, 2, 4, 3))]
        for images in batches:
            engine.submit(images)
            images_kept = images.copy()
            images[:] = 0  # what was submitted may be overwritten
            images[:] = images_kept
        for images in batches:
            np.testing.assert_allclose(engine.result().logits, means(images), rtol=1e-6)


def test_similarity_comes_where_the_engine_has_it():
    with Fake(outputs=("logits", "similarity")).open() as engine:
        found = engine.infer(pictures(5))
    assert found.similarity.shape == (5, M, N)
    np.testing.assert_allclose(found.similarity[:, 1, 2], means(pictures(5)).mean(1), rtol=1e-6)


def test_what_it_says_of_itself():
    with Fake((1, 2, 4)).open() as engine:
        assert (engine.size, engine.labels, engine.best_batch) == (SIZE, M, 2)
        assert engine.concurrency == 2


def test_closing_frees_the_memory_with_work_under_way_and_twice():
    fake = Fake()
    engine = fake.open()
    engine.submit(pictures(3))
    engine.close()
    engine.close()
    assert fake.memory.closed == 2


@pytest.mark.parametrize(
    ("fake", "plan", "message"),
    [
        (Fake(), b"other", r"(?s)refuses the engine.*patchct compile"),
        (Fake(room=100), b"plan", r"(?s)too little memory.*batches of 4.*--batch 2"),
    ],
)
def test_an_engine_that_does_not_open_frees_everything(fake, plan, message):
    with pytest.raises(EngineError, match=message):
        fake.open(plan)
    assert fake.memory.closed


def test_a_library_that_does_not_serve_the_gpu_says_what_to_take():
    """As TensorRT for RTX 1.7 says it on an H100."""
    fake = Fake()

    def runtime(log):
        def refuse(data):
            said = "The runtime does not support this compute capability 9.0. Supported: 8.0 8.6"
            log.log(log.ERROR, said)

        return types.SimpleNamespace(deserialize_cuda_engine=refuse)

    fake.trt.Runtime = runtime
    with pytest.raises(EngineError, match=r"(?s)capability 9.0.*--engine openvino"):
        fake.open()


def test_without_a_context_it_does_not_open():
    fake = Fake()
    fake.context = None
    with pytest.raises(EngineError, match="too little memory"):
        fake.open()
    assert fake.memory.closed


def test_a_batch_that_fails_is_told_and_the_next_runs():
    fake = Fake(fails=True)
    with fake.open() as engine:
        with pytest.raises(EngineError, match="did not run"):
            engine.infer(pictures(2))
        fake.context.fails = False
        np.testing.assert_allclose(engine.infer(pictures(2)).logits, means(pictures(2)), rtol=1e-6)
