"""Device memory behind one small interface, with cuda-bindings or pycuda.

Both use the GPU's primary context, the one that TensorRT uses, on the thread that opened them.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from patchct_edge.arrays import Bytes
from patchct_edge.runtime.engines.tensorrt.library import init_driver, unwrap_result, uses_pycuda


class DeviceMemory(ABC):
    """One CUDA stream of one GPU, with buffers on the device and on the host.

    Attributes:
        stream: the handle of the stream, as TensorRT expects it.
    """

    stream: int

    @abstractmethod
    def allocate_device(self, size: int) -> int:
        """Allocate `size` bytes on the device and return their address.

        Raises:
            MemoryError: the device has too little memory left.
        """

    @abstractmethod
    def allocate_pinned(self, size: int) -> Bytes:
        """Allocate page-locked memory on the host and return it as uint8 (size,).

        Raises:
            MemoryError: the host has too little memory left.
        """

    @abstractmethod
    def copy_in(self, address: int, host: Bytes) -> None:
        """Queue a copy of pinned bytes to the device."""

    @abstractmethod
    def copy_out(self, host: Bytes, address: int) -> None:
        """Queue a copy from the device to pinned bytes."""

    @abstractmethod
    def record_event(self) -> Any:
        """Queue an event behind everything queued so far, and return it."""

    @abstractmethod
    def wait(self, event: Any) -> None:
        """Wait until the device has reached an event; wait for each event only once."""

    @abstractmethod
    def close(self) -> None:
        """Wait for everything queued, and free all memory; calling it twice is harmless."""


class CudaBindings(DeviceMemory):
    """Device memory through cuda-bindings, NVIDIA's own."""

    def __init__(self, number: int = 0) -> None:
        self._driver = init_driver()
        self._device = self._call("cuDeviceGet", number)
        self._cleanups: list[tuple[str, Any]] = []  # driver calls that free what was created
        context = self._call("cuDevicePrimaryCtxRetain", self._device)
        self._cleanups.append(("cuDevicePrimaryCtxRelease", self._device))
        try:
            self._call("cuCtxSetCurrent", context)
            flags = self._driver.CUstream_flags.CU_STREAM_NON_BLOCKING.value
            self._stream = self._create("cuStreamDestroy", "cuStreamCreate", flags)
        except BaseException:
            self.close()
            raise
        self.stream = int(self._stream)

    def allocate_device(self, size: int) -> int:
        return int(self._create("cuMemFree", "cuMemAlloc", size))

    def allocate_pinned(self, size: int) -> Bytes:
        address = int(self._create("cuMemFreeHost", "cuMemHostAlloc", size, 0))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def copy_in(self, address: int, host: Bytes) -> None:
        self._call("cuMemcpyHtoDAsync", address, host.ctypes.data, host.nbytes, self._stream)

    def copy_out(self, host: Bytes, address: int) -> None:
        self._call("cuMemcpyDtoHAsync", host.ctypes.data, address, host.nbytes, self._stream)

    def record_event(self) -> Any:
        flags = self._driver.CUevent_flags.CU_EVENT_DISABLE_TIMING.value
        event = self._call("cuEventCreate", flags)
        self._call("cuEventRecord", event, self._stream)
        return event

    def wait(self, event: Any) -> None:
        self._call("cuEventSynchronize", event)
        self._call("cuEventDestroy", event)

    def close(self) -> None:
        while self._cleanups:  # cuMemFree and cuStreamDestroy wait for what is queued
            name, handle = self._cleanups.pop()
            self._call(name, handle)

    def _create(self, cleanup: str, name: str, *arguments: Any) -> Any:
        handle = self._call(name, *arguments)
        self._cleanups.append((cleanup, handle))
        return handle

    def _call(self, name: str, *arguments: Any) -> Any:
        error, *values = getattr(self._driver, name)(*arguments)
        if error == self._driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise MemoryError(name)
        return unwrap_result(self._driver, (error, *values), f"{name} failed")


class PyCUDA(DeviceMemory):
    """Device memory through pycuda, which older Jetson setups have."""

    def __init__(self, number: int = 0) -> None:
        import pycuda.driver as cuda

        cuda.init()
        self._cuda = cuda
        self._context = cuda.Device(number).retain_primary_context()
        self._context.push()
        self._buffers: list[Any] = []
        self._stream = cuda.Stream()
        self.stream = int(self._stream.handle)

    def allocate_device(self, size: int) -> int:
        self._buffers.append(self._allocate(self._cuda.mem_alloc, size))
        return int(self._buffers[-1])

    def allocate_pinned(self, size: int) -> Bytes:
        host: Bytes = self._allocate(self._cuda.pagelocked_empty, size, np.uint8)
        return host

    def copy_in(self, address: int, host: Bytes) -> None:
        self._cuda.memcpy_htod_async(address, host, self._stream)

    def copy_out(self, host: Bytes, address: int) -> None:
        self._cuda.memcpy_dtoh_async(host, address, self._stream)

    def record_event(self) -> Any:
        return self._cuda.Event().record(self._stream)

    def wait(self, event: Any) -> None:
        event.synchronize()

    def close(self) -> None:
        if self._context is not None:
            self._stream.synchronize()
            while self._buffers:
                self._buffers.pop().free()
            self._context.pop()
            self._context = None

    def _allocate(self, allocate: Any, *arguments: Any) -> Any:
        try:
            return allocate(*arguments)
        except self._cuda.MemoryError:
            raise MemoryError(allocate.__name__) from None


def open_memory() -> DeviceMemory:
    """Open the first GPU with the installed bindings.

    Raises:
        EngineError: no bindings are installed, or there is no driver or GPU.
    """
    return PyCUDA() if uses_pycuda() else CudaBindings()
