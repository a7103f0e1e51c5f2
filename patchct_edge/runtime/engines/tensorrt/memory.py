"""Device memory behind one small interface: cuda-bindings, or pycuda where someone has that.

Both work in the GPU's primary context, the one that TensorRT uses, on the thread that opened them.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from patchct_edge.arrays import Bytes
from patchct_edge.runtime.engines.tensorrt.library import check_result, init_driver, uses_pycuda


class DeviceMemory(ABC):
    """One stream of one GPU, and buffers on both of its sides.

    Attributes:
        stream: the handle of the stream, as TensorRT takes it.
    """

    stream: int

    @abstractmethod
    def on_device(self, size: int) -> int:
        """Allocate bytes on the device; return their address.

        Raises:
            MemoryError: the device has not so many left.
        """

    @abstractmethod
    def pinned(self, size: int) -> Bytes:
        """Allocate page-locked bytes on the host, uint8 (size,).

        Raises:
            MemoryError: as `on_device`.
        """

    @abstractmethod
    def copy_in(self, address: int, host: Bytes) -> None:
        """Queue a copy of pinned bytes to the device."""

    @abstractmethod
    def copy_out(self, host: Bytes, address: int) -> None:
        """Queue a copy from the device to pinned bytes."""

    @abstractmethod
    def mark(self) -> Any:
        """Return a mark in the queue, behind all that was queued so far."""

    @abstractmethod
    def wait(self, mark: Any) -> None:
        """Wait until the device has come to a mark."""

    @abstractmethod
    def close(self) -> None:
        """Wait for all that is queued, and free everything; calling it twice is harmless."""


class CudaBindings(DeviceMemory):
    """NVIDIA's own bindings of the driver."""

    def __init__(self, number: int = 0) -> None:
        self._driver = init_driver()
        self._device = self._call("cuDeviceGet", number)
        self._frees: list[tuple[str, Any]] = []  # what undoes what was made, in its order
        context = self._call("cuDevicePrimaryCtxRetain", self._device)
        self._frees.append(("cuDevicePrimaryCtxRelease", self._device))
        try:
            self._call("cuCtxSetCurrent", context)
            flags = self._driver.CUstream_flags.CU_STREAM_NON_BLOCKING.value
            self._stream = self._made("cuStreamDestroy", "cuStreamCreate", flags)
        except BaseException:
            self.close()
            raise
        self.stream = int(self._stream)

    def on_device(self, size: int) -> int:
        return int(self._made("cuMemFree", "cuMemAlloc", size))

    def pinned(self, size: int) -> Bytes:
        address = int(self._made("cuMemFreeHost", "cuMemHostAlloc", size, 0))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def copy_in(self, address: int, host: Bytes) -> None:
        self._call("cuMemcpyHtoDAsync", address, host.ctypes.data, host.nbytes, self._stream)

    def copy_out(self, host: Bytes, address: int) -> None:
        self._call("cuMemcpyDtoHAsync", host.ctypes.data, address, host.nbytes, self._stream)

    def mark(self) -> Any:
        flags = self._driver.CUevent_flags.CU_EVENT_DISABLE_TIMING.value
        event = self._call("cuEventCreate", flags)
        self._call("cuEventRecord", event, self._stream)
        return event

    def wait(self, mark: Any) -> None:
        self._call("cuEventSynchronize", mark)
        self._call("cuEventDestroy", mark)

    def close(self) -> None:
        while self._frees:  # cuMemFree and cuStreamDestroy wait for what is queued
            name, what = self._frees.pop()
            self._call(name, what)

    def _made(self, free: str, name: str, *arguments: Any) -> Any:
        found = self._call(name, *arguments)
        self._frees.append((free, found))
        return found

    def _call(self, name: str, *arguments: Any) -> Any:
        error, *values = getattr(self._driver, name)(*arguments)
        if error == self._driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise MemoryError(name)
        return check_result(self._driver, (error, *values), f"{name} failed")


class PyCUDA(DeviceMemory):
    """The same through pycuda, which older code for Jetsons has."""

    def __init__(self, number: int = 0) -> None:
        import pycuda.driver as cuda

        cuda.init()
        self._cuda = cuda
        self._context = cuda.Device(number).retain_primary_context()
        self._context.push()
        self._buffers: list[Any] = []
        self._stream = cuda.Stream()
        self.stream = int(self._stream.handle)

    def on_device(self, size: int) -> int:
        self._buffers.append(self._allocated(self._cuda.mem_alloc, size))
        return int(self._buffers[-1])

    def pinned(self, size: int) -> Bytes:
        host: Bytes = self._allocated(self._cuda.pagelocked_empty, size, np.uint8)
        return host

    def copy_in(self, address: int, host: Bytes) -> None:
        self._cuda.memcpy_htod_async(address, host, self._stream)

    def copy_out(self, host: Bytes, address: int) -> None:
        self._cuda.memcpy_dtoh_async(host, address, self._stream)

    def mark(self) -> Any:
        return self._cuda.Event().record(self._stream)

    def wait(self, mark: Any) -> None:
        mark.synchronize()

    def close(self) -> None:
        if self._context is not None:
            self._stream.synchronize()
            while self._buffers:
                self._buffers.pop().free()
            self._context.pop()
            self._context = None

    def _allocated(self, allocate: Any, *arguments: Any) -> Any:
        try:
            return allocate(*arguments)
        except self._cuda.MemoryError:
            raise MemoryError(allocate.__name__) from None


def open_memory() -> DeviceMemory:
    """Open the first GPU with the bindings that are here.

    Raises:
        EngineError: there are none, or no driver or GPU for them.
    """
    return PyCUDA() if uses_pycuda() else CudaBindings()
