"""Device memory with a fake driver and a fake pycuda: order of the cleanup, errors, names."""

from __future__ import annotations

import ast
import ctypes
import enum
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from patchct_edge.errors import EngineError
from patchct_edge.runtime.engines.tensorrt import library, memory
from patchct_edge.runtime.engines.tensorrt.memory import CudaBindings, PyCUDA, open_memory


class Result(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_UNKNOWN = 999


class FakeDriver:
    """Returns what cuda.bindings.driver returns, and records the calls."""

    CUresult = Result
    CUstream_flags = types.SimpleNamespace(CU_STREAM_NON_BLOCKING=types.SimpleNamespace(value=1))
    CUevent_flags = types.SimpleNamespace(CU_EVENT_DISABLE_TIMING=types.SimpleNamespace(value=2))

    def __init__(self, free_bytes=10**9, failing=()):
        self.calls, self.free_bytes, self.failing = [], free_bytes, failing
        self.buffers = {}  # by address

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append(name)
            if name in self.failing:
                return (Result.CUDA_ERROR_UNKNOWN,)
            if name in ("cuMemAlloc", "cuMemHostAlloc"):
                return self._allocate(arguments[0])
            if name in ("cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync"):
                target, source, size, _ = arguments
                ctypes.memmove(target, source, size)
                return (Result.CUDA_SUCCESS,)
            if name in ("cuMemFree", "cuMemFreeHost"):
                del self.buffers[int(arguments[0])]
                return (Result.CUDA_SUCCESS,)
            return Result.CUDA_SUCCESS, 7

        return call

    def _allocate(self, size):
        if size > self.free_bytes:
            return (Result.CUDA_ERROR_OUT_OF_MEMORY, 0)
        buffer = ctypes.create_string_buffer(size)
        self.buffers[ctypes.addressof(buffer)] = buffer
        return Result.CUDA_SUCCESS, ctypes.addressof(buffer)


@pytest.fixture
def install_driver(monkeypatch):
    """Return a function that puts a fake driver in place."""

    def install(**options):
        fake = FakeDriver(**options)
        monkeypatch.setattr(memory, "init_driver", lambda: fake)
        return fake

    return install


def test_bytes_are_copied_to_the_device_and_back(install_driver):
    fake = install_driver()
    device = CudaBindings()
    source, target = device.allocate_pinned(6), device.allocate_pinned(6)
    source[:] = range(6)
    address = device.allocate_device(6)
    device.copy_in(address, source[:4])
    device.copy_out(target, address)
    device.wait(device.record_event())
    np.testing.assert_array_equal(target, [0, 1, 2, 3, 0, 0])
    assert device.stream == 7
    device.close()
    assert not fake.buffers


def test_closing_frees_everything_once_in_reverse_order(install_driver):
    fake = install_driver()
    device = CudaBindings()
    device.allocate_device(8)
    device.allocate_pinned(8)
    calls_before_close = len(fake.calls)
    device.close()
    device.close()
    assert fake.calls[calls_before_close:] == [
        "cuMemFreeHost",
        "cuMemFree",
        "cuStreamDestroy",
        "cuDevicePrimaryCtxRelease",
    ]


@pytest.mark.parametrize("allocate", ["allocate_device", "allocate_pinned"])
def test_too_little_memory_is_a_memory_error(install_driver, allocate):
    install_driver(free_bytes=10)
    with pytest.raises(MemoryError):
        getattr(CudaBindings(), allocate)(11)


@pytest.mark.parametrize("call", ["cuCtxSetCurrent", "cuStreamCreate"])
def test_a_failure_while_opening_releases_the_context(install_driver, call):
    fake = install_driver(failing=(call,))
    with pytest.raises(EngineError, match=f"(?s){call} failed.*CUDA_ERROR_UNKNOWN"):
        CudaBindings()
    assert fake.calls[-1] == "cuDevicePrimaryCtxRelease"


def test_every_driver_name_in_use_exists():
    real = pytest.importorskip("cuda.bindings.driver")
    names = set()
    for module in (memory, library):
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))):
            name = getattr(node, "attr", getattr(node, "value", None))
            if isinstance(name, str) and name.startswith("cu") and name[2:3].isupper():
                names.add(name)
    assert len(names) >= 15
    assert [name for name in sorted(names) if not hasattr(real, name)] == []
    assert hasattr(real.CUstream_flags, "CU_STREAM_NON_BLOCKING")
    assert hasattr(real.CUevent_flags, "CU_EVENT_DISABLE_TIMING")


class FakePyCUDA(types.ModuleType):
    """The parts of pycuda.driver in use."""

    class MemoryError(Exception):
        pass

    def __init__(self):
        super().__init__("pycuda.driver")
        self.log: list[str] = []
        context = types.SimpleNamespace(
            push=lambda: self.log.append("push"), pop=lambda: self.log.append("pop")
        )
        self.init = lambda: self.log.append("init")
        self.Device = lambda n: types.SimpleNamespace(retain_primary_context=lambda: context)
        self.Stream = lambda: types.SimpleNamespace(
            handle=9, synchronize=lambda: self.log.append("synchronize")
        )
        self.pagelocked_empty = np.empty

    def mem_alloc(self, size):
        if size > 100:
            raise self.MemoryError
        log = self.log

        class Allocation:
            def __int__(self):
                return 4096

            def free(self):
                log.append("free")

        return Allocation()


@pytest.fixture
def pycuda(monkeypatch):
    """A fake pycuda.driver, installed."""
    fake = FakePyCUDA()
    package = types.ModuleType("pycuda")
    vars(package)["driver"] = fake
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", fake)
    return fake


def test_pycuda_uses_the_primary_context_and_releases_it(pycuda):
    device = PyCUDA()
    assert device.stream == 9
    assert device.allocate_device(50) == 4096
    assert device.allocate_pinned(5).shape == (5,)
    with pytest.raises(MemoryError):
        device.allocate_device(101)
    device.close()
    device.close()
    assert pycuda.log == ["init", "push", "synchronize", "free", "pop"]


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        ({"cuda.bindings", "pycuda"}, "CudaBindings"),
        ({"pycuda"}, "PyCUDA"),
        (set(), "CudaBindings"),
    ],
    ids=["both", "pycuda", "neither"],
)
def test_pycuda_is_used_only_without_cuda_bindings(monkeypatch, installed, expected):
    def find_spec(name):
        if name.startswith("cuda.") and name not in installed:
            raise ModuleNotFoundError("No module named 'cuda'")
        return name in installed or None

    monkeypatch.setattr(library, "find_spec", find_spec)
    for name in ("CudaBindings", "PyCUDA"):
        monkeypatch.setattr(memory, name, lambda name=name: name)
    assert open_memory() == expected


def test_pycuda_describes_the_gpu(monkeypatch, pycuda):
    monkeypatch.setattr(library, "uses_pycuda", lambda: True)
    pycuda.Device = lambda n: types.SimpleNamespace(
        name=lambda: "Orin", compute_capability=lambda: (8, 7)
    )
    pycuda.get_driver_version = lambda: 12060
    assert library.query_device() == library.Device("Orin", "8.7", "12.6")
    pycuda.Error = RuntimeError

    def fail(number):
        raise RuntimeError("no device")

    pycuda.Device = fail
    with pytest.raises(EngineError, match="no such GPU"):
        library.query_device()
