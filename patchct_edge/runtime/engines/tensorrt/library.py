"""Find TensorRT or TensorRT for RTX, whose Python API is the same, and the GPU to run it on."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from patchct_edge.errors import EngineError, MissingLibraryError

LIBRARIES = ("tensorrt", "tensorrt_rtx")  # in order of preference
MIN_TENSORRT_VERSION = (10, 3)  # the one in JetPack 6


@dataclass(frozen=True)
class Device:
    """A GPU and its driver."""

    name: str
    compute_capability: str  # such as "8.7"
    driver: str  # the newest CUDA version that the driver supports, such as "13.0"


def import_tensorrt() -> ModuleType:
    """Import TensorRT, or else TensorRT for RTX.

    Raises:
        EngineError: neither is installed, or the library does not load or is too old.
    """
    name = next((name for name in LIBRARIES if find_spec(name)), None)
    if name is None:
        raise EngineError(
            "TensorRT is not installed",
            expected=" or ".join(LIBRARIES),
            fix="on a Jetson, create the venv with --system-site-packages; "
            "elsewhere, pip install tensorrt",
        )
    try:
        trt = import_module(name)
    except (ImportError, OSError) as error:
        raise EngineError(f"cannot load {name}", got=error) from None
    if name == "tensorrt" and _version(trt) < MIN_TENSORRT_VERSION:
        raise EngineError(
            "TensorRT is too old",
            got=trt.__version__,
            expected=f"{'.'.join(map(str, MIN_TENSORRT_VERSION))} or later",
            fix="install JetPack 6.1 or later",
        )
    return trt


def is_rtx(trt: ModuleType) -> bool:
    """Return whether this is TensorRT for RTX, which builds without a GPU."""
    return trt.__name__ == LIBRARIES[1]


def library_version(trt: ModuleType) -> str:
    """Return the name and version of a library, such as "tensorrt 10.3.0"."""
    return f"{trt.__name__} {trt.__version__}"


def _version(trt: ModuleType) -> tuple[int, int]:
    major, minor = trt.__version__.split(".")[:2]
    return int(major), int(minor)


def query_device(number: int = 0) -> Device:
    """Ask the driver for a GPU.

    Call this before you create any TensorRT object: without a driver, those may crash the process.

    Args:
        number: of the GPU, counted from 0.

    Raises:
        EngineError: there is no driver or no such GPU, or cuda-bindings are not installed.
    """
    if uses_pycuda():
        return _query_device_with_pycuda(number)
    driver = init_driver()
    handle = unwrap_result(driver, driver.cuDeviceGet(number), "there is no such GPU")
    attribute = driver.CUdevice_attribute
    major, minor = (
        unwrap_result(driver, driver.cuDeviceGetAttribute(code, handle), "the GPU does not answer")
        for code in (
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
    )
    name = unwrap_result(driver, driver.cuDeviceGetName(96, handle), "the GPU does not answer")
    version = unwrap_result(driver, driver.cuDriverGetVersion(), "the driver does not answer")
    return Device(name.split(b"\0")[0].decode(), f"{major}.{minor}", _cuda_version(version))


def uses_pycuda() -> bool:
    """Return whether pycuda replaces cuda-bindings, because only pycuda is installed."""
    try:
        has_bindings = find_spec("cuda.bindings") is not None
    except ModuleNotFoundError:  # not even `cuda`
        has_bindings = False
    return not has_bindings and find_spec("pycuda") is not None


def _query_device_with_pycuda(number: int) -> Device:
    import pycuda.driver as cuda

    try:
        cuda.init()
        device = cuda.Device(number)
    except cuda.Error as error:
        raise EngineError("CUDA: there is no such GPU, or no driver", got=error) from None
    capability = ".".join(map(str, device.compute_capability()))
    return Device(device.name(), capability, _cuda_version(cuda.get_driver_version()))


def _cuda_version(code: int) -> str:
    """Return the version of a driver's code: 12060 is "12.6"."""
    return f"{code // 1000}.{code % 1000 // 10}"


def unwrap_result(driver: Any, result: tuple[Any, ...], message: str) -> Any:
    """Return the value of a driver call's result.

    Args:
        driver: the bindings.
        result: (error code, value), or (error code,) of a call that returns nothing.
        message: what to say if the call failed.

    Raises:
        EngineError: the call failed; the error names the driver's error code.
    """
    error, *values = result
    if error != driver.CUresult.CUDA_SUCCESS:
        raise EngineError(f"CUDA: {message}", got=error.name)
    return values[0] if values else None


def init_driver() -> Any:
    """Initialize the CUDA driver and return its bindings.

    Raises:
        EngineError: cuda-bindings are not installed, or there is no driver.
    """
    try:
        from cuda.bindings import driver
    except ImportError:
        raise MissingLibraryError("cuda-bindings") from None
    try:
        result = driver.cuInit(0)
    except RuntimeError as error:  # libcuda.so is missing, or lacks a function
        raise EngineError("there is no NVIDIA driver", got=error) from None
    unwrap_result(driver, result, "the driver does not start")
    return driver
