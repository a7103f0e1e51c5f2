"""TensorRT, or TensorRT for RTX, whose Python API is the same: which is here, and for which GPU."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from patchct_edge.errors import EngineError, MissingLibraryError

LIBRARIES = ("tensorrt", "tensorrt_rtx")  # the former is taken where both are here
OLDEST = (10, 3)  # of TensorRT; what JetPack 6 brings


@dataclass(frozen=True)
class Device:
    """A GPU and its driver."""

    name: str
    compute_capability: str  # such as "8.7"
    driver: str  # the CUDA version that it serves, such as "13.0"


def import_tensorrt() -> ModuleType:
    """Import TensorRT.

    Raises:
        EngineError: there is none, it does not load, or it is too old.
    """
    found = next((name for name in LIBRARIES if find_spec(name)), None)
    if found is None:
        raise EngineError(
            "TensorRT is not installed",
            expected=" or ".join(LIBRARIES),
            fix="on a Jetson a venv with --system-site-packages; elsewhere pip install tensorrt",
        )
    try:
        trt = import_module(found)
    except (ImportError, OSError) as error:
        raise EngineError(f"{found} does not load", got=error) from None
    if found == "tensorrt" and version_of(trt) < OLDEST:
        raise EngineError(
            "TensorRT is too old",
            got=trt.__version__,
            expected=f"{'.'.join(map(str, OLDEST))} or later",
            fix="JetPack 6.1 or later",
        )
    return trt


def is_rtx(trt: ModuleType) -> bool:
    """Whether this is TensorRT for RTX, which builds without a GPU."""
    return trt.__name__ == LIBRARIES[1]


def library_version(trt: ModuleType) -> str:
    """Return name and version, such as "tensorrt 10.3.0"."""
    return f"{trt.__name__} {trt.__version__}"


def version_of(trt: ModuleType) -> tuple[int, int]:
    """Return (major, minor)."""
    major, minor = trt.__version__.split(".")[:2]
    return int(major), int(minor)


def query_device(number: int = 0) -> Device:
    """Ask the driver for a GPU. Ask before any TensorRT object is made: without a driver those may
    take the process with them.

    Raises:
        EngineError: there is no driver, none that serves this library, or no GPU.
    """
    if uses_pycuda():
        return _device_of_pycuda(number)
    driver = init_driver()
    handle = check_result(driver, driver.cuDeviceGet(number), "there is no such GPU")
    attribute = driver.CUdevice_attribute
    major, minor = (
        check_result(driver, driver.cuDeviceGetAttribute(each, handle), "the GPU does not answer")
        for each in (
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
    )
    name = check_result(driver, driver.cuDeviceGetName(96, handle), "the GPU does not answer")
    serves = check_result(driver, driver.cuDriverGetVersion(), "the driver does not answer")
    return Device(name.split(b"\0")[0].decode(), f"{major}.{minor}", _cuda_version(serves))


def uses_pycuda() -> bool:
    """Whether pycuda stands in for cuda-bindings, which are not here."""
    try:
        has_bindings = find_spec("cuda.bindings") is not None
    except ModuleNotFoundError:  # not even `cuda`
        has_bindings = False
    return not has_bindings and find_spec("pycuda") is not None


def _device_of_pycuda(number: int) -> Device:
    import pycuda.driver as cuda

    try:
        cuda.init()
        found = cuda.Device(number)
    except cuda.Error as error:
        raise EngineError("CUDA: there is no such GPU, or no driver", got=error) from None
    capability = ".".join(map(str, found.compute_capability()))
    return Device(found.name(), capability, _cuda_version(cuda.get_driver_version()))


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def check_result(driver: Any, answer: tuple[Any, ...], what: str) -> Any:
    """Return what a call of the driver answered, or raise an EngineError that names its error."""
    error, *values = answer
    if error != driver.CUresult.CUDA_SUCCESS:
        raise EngineError(f"CUDA: {what}", got=error.name)
    return values[0] if values else None


def init_driver() -> Any:
    """Return the driver's bindings, once the driver has started."""
    try:
        from cuda.bindings import driver
    except ImportError:
        raise MissingLibraryError("cuda-bindings") from None
    try:
        answer = driver.cuInit(0)
    except RuntimeError as error:  # libcuda.so is missing, or lacks a function
        raise EngineError("there is no NVIDIA driver", got=error) from None
    check_result(driver, answer, "the driver does not start")
    return driver
