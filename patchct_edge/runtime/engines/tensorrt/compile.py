"""Compile a bundle's graph for this machine's GPU and store the engine in the bundle."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from patchct_edge.bundle import Bundle
from patchct_edge.bundle.precisions import INT8_FP16_GRAPH
from patchct_edge.errors import EngineError
from patchct_edge.files import cache_folder, write_atomically
from patchct_edge.progress import NO_PROGRESS, Progress
from patchct_edge.runtime.engines.compiled import ANY, TENSORRT, CompiledEngine, add_compiled
from patchct_edge.runtime.engines.tensorrt.build import BuildOptions, build
from patchct_edge.runtime.engines.tensorrt.library import (
    Device,
    is_rtx,
    library_version,
    query_device,
)

COMPUTE_PRECISION = {"fp32": "fp32", "fp16": "fp16", "int8": "int8+fp16"}


def compile_engine(
    trt: ModuleType,
    bundle: Bundle,
    precision: str,
    options: BuildOptions,
    progress: Progress = NO_PROGRESS,
) -> CompiledEngine:
    """Compile one precision for this machine's GPU, add it to the bundle, and return its record.

    Args:
        trt: TensorRT or TensorRT for RTX, which compiles without a GPU.
        progress: shows each phase; a KeyboardInterrupt raised in it stops the build.

    Raises:
        EngineError: there is no GPU, or the library refuses the graph.
        BundleError: the bundle has no graph for this precision.
        KeyboardInterrupt: the build was stopped; the bundle is unchanged.
    """
    device = target_device(trt)
    graph = bundle.graph_path(INT8_FP16_GRAPH if precision == "int8" else precision)
    cache_path = timing_cache_path(trt, device)
    start = time.monotonic()
    plan, timing_cache = build(trt, graph, options, _read_timing_cache(cache_path), progress)
    record = CompiledEngine(
        name=_engine_name(trt, precision, device, options),
        engine=TENSORRT,
        precision=precision,
        compute_precision=COMPUTE_PRECISION[precision],
        library=library_version(trt),
        device=device.name,
        compute_capability=device.compute_capability,
        driver=device.driver,
        batches=options.batches,
        similarity=options.similarity,
        build_seconds=round(time.monotonic() - start, 1),
        model=bundle.manifest.fingerprint,
        graph=bundle.manifest.files[graph.name],
    )
    add_compiled(bundle, record, plan)
    _write_timing_cache(cache_path, timing_cache)
    return record


def target_device(trt: ModuleType) -> Device:
    """Return the GPU to compile for: any, with TensorRT for RTX, which finishes engines later.

    Raises:
        EngineError: there is no GPU, and the library needs one.
    """
    try:
        device = query_device()
    except EngineError:
        if not is_rtx(trt):
            raise
        return Device(ANY, ANY, "")
    return Device(ANY, ANY, device.driver) if is_rtx(trt) else device


def timing_cache_path(trt: ModuleType, device: Device) -> Path | None:
    """Return the file for the layer timings of this version on a device.

    None if the user has no home folder.
    """
    try:
        folder = cache_folder() / TENSORRT
    except RuntimeError:
        return None
    name = _file_name(f"{library_version(trt)} {device.name} {device.driver}")
    return folder / f"{name}.timing"


def _engine_name(trt: ModuleType, precision: str, device: Device, options: BuildOptions) -> str:
    similarity = " similarity" if options.similarity else ""
    return _file_name(f"{library_version(trt)} {device.name} {precision}{similarity}")


def _file_name(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def _read_timing_cache(path: Path | None) -> bytes:
    try:
        return path.read_bytes() if path else b""
    except OSError:
        return b""


def _write_timing_cache(path: Path | None, timing_cache: bytes) -> None:
    if path is None or not timing_cache:
        return
    with suppress(OSError):  # without it, the next build only takes longer
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, timing_cache)
