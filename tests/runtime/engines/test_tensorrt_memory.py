"""Device memory against a fake driver and a fake pycuda: order of the frees, errors, names."""

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
    """Answers as cuda.bindings.driver does, and keeps what was called."""

    CUresult = Result
    CUstream_flags = types.SimpleNamespace(CU_STREAM_NON_BLOCKING=types.SimpleNamespace(value=1))
    CUevent_flags = types.SimpleNamespace(CU_EVENT_DISABLE_TIMING=types.SimpleNamespace(value=2))

    def __init__(self, room=10**9, fails=()):
        self.calls, self.room, self.fails, self.keep = [], room, fails, {}

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append(name)
            if name in self.fails:
                return (Result.CUDA_ERROR_UNKNOWN,)
            if name in ("cuMemAlloc", "cuMemHostAlloc"):
                return self._allocated(arguments[0])
            if name in ("cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync"):
                target, source, size, _ = arguments
                ctypes.memmove(target, source, size)
                return (Result.CUDA_SUCCESS,)
            if name in ("cuMemFree", "cuMemFreeHost"):
                del self.keep[int(arguments[0])]
                return (Result.CUDA_SUCCESS,)
            return Result.CUDA_SUCCESS, 7

        return call

    def _allocated(self, size):
        if size > self.room:
            return (Result.CUDA_ERROR_OUT_OF_MEMORY, 0)
        buffer = ctypes.create_string_buffer(size)
        self.keep[ctypes.addressof(buffer)] = buffer
        return Result.CUDA_SUCCESS, ctypes.addressof(buffer)


@pytest.fixture
def driver(monkeypatch):
    def use(**options):
        found = FakeDriver(**options)
        monkeypatch.setattr(memory, "init_driver", lambda: found)
        return found

    return use


def test_bytes_go_there_and_back(driver):
    fake = driver()
    device = CudaBindings()
    there, back = device.pinned(6), device.pinned(6)
    there[:] = range(6)
    address = device.on_device(6)
    device.copy_in(address, there[:4])
    device.copy_out(back, address)
    device.wait(device.mark())
    np.testing.assert_array_equal(back, [0, 1, 2, 3, 0, 0])
    assert device.stream == 7
    device.close()
    assert not fake.keep


def test_everything_is_freed_once_and_in_reverse(driver):
    fake = driver()
    device = CudaBindings()
    device.on_device(8)
    device.pinned(8)
    made = len(fake.calls)
    device.close()
    device.close()
    assert fake.calls[made:] == [
        "cuMemFreeHost",
        "cuMemFree",
        "cuStreamDestroy",
        "cuDevicePrimaryCtxRelease",
    ]


@pytest.mark.parametrize("allocate", ["on_device", "pinned"])
def test_too_little_memory_is_a_memory_error(driver, allocate):
    driver(room=10)
    with pytest.raises(MemoryError):
        getattr(CudaBindings(), allocate)(11)


@pytest.mark.parametrize("call", ["cuCtxSetCurrent", "cuStreamCreate"])
def test_what_does_not_open_gives_the_context_back(driver, call):
    fake = driver(fails=(call,))
    with pytest.raises(EngineError, match=f"(?s){call} failed.*CUDA_ERROR_UNKNOWN"):
        CudaBindings()
    assert fake.calls[-1] == "cuDevicePrimaryCtxRelease"


def test_every_name_of_the_driver_exists():
    real = pytest.importorskip("cuda.bindings.driver")
    used = set()
    for module in (memory, library):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
            name = getattr(node, "attr", getattr(node, "value", None))
            if isinstance(name, str) and name.startswith("cu") and name[2:3].isupper():
                used.add(name)
    assert len(used) >= 15
    assert [name for name in sorted(used) if not hasattr(real, name)] == []
    assert hasattr(real.CUstream_flags, "CU_STREAM_NON_BLOCKING")
    assert hasattr(real.CUevent_flags, "CU_EVENT_DISABLE_TIMING")


class FakePyCUDA(types.ModuleType):
    """As much of pycuda.driver as is used."""

    class MemoryError(Exception):
        pass

    def __init__(self):
        super().__init__("pycuda.driver")
        self.log = []
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
    fake = FakePyCUDA()
    package = types.ModuleType("pycuda")
    package.driver = fake
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", fake)
    return fake


def test_pycuda_works_in_the_primary_context_and_gives_it_back(pycuda):
    device = PyCUDA()
    assert device.stream == 9
    assert device.on_device(50) == 4096
    assert device.pinned(5).shape == (5,)
    with pytest.raises(MemoryError):
        device.on_device(101)
    device.close()
    device.close()
    assert pycuda.log == ["init", "push", "synchronize", "free", "pop"]


@pytest.mark.parametrize(
    ("has", "kind"),
    [
        ({"cuda.bindings", "pycuda"}, "CudaBindings"),
        ({"pycuda"}, "PyCUDA"),
        (set(), "CudaBindings"),
    ],
    ids=["both", "pycuda", "neither"],
)
def test_pycuda_serves_only_where_the_bindings_are_missing(monkeypatch, has, kind):
    def find(name):
        if name.startswith("cuda.") and name not in has:
            raise ModuleNotFoundError("No module named 'cuda'")
        return name in has or None

    monkeypatch.setattr(library, "find_spec", find)
    for name in ("CudaBindings", "PyCUDA"):
        monkeypatch.setattr(memory, name, lambda name=name: name)
    assert open_memory() == kind


def test_pycuda_names_the_gpu(monkeypatch, pycuda):
    monkeypatch.setattr(library, "uses_pycuda", lambda: True)
    pycuda.Device = lambda n: types.SimpleNamespace(
        name=lambda: "Orin", compute_capability=lambda: (8, 7)
    )
    pycuda.get_driver_version = lambda: 12060
    assert library.query_device() == library.Device("Orin", "8.7", "12.6")
    pycuda.Error = RuntimeError

    def none(n):
        raise RuntimeError("no device")

    pycuda.Device = none
    with pytest.raises(EngineError, match="no such GPU"):
        library.query_device()
