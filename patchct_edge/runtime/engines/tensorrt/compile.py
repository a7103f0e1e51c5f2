"""A bundle's graph to an engine in the bundle, with its record and the timing cache."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from patchct_edge.bundle import Bundle
from patchct_edge.bundle.precisions import INT8_FP16_GRAPH
from patchct_edge.errors import EngineError
from patchct_edge.files import user_folder, write_atomically
from patchct_edge.runtime.engines.compiled import ANY, TENSORRT, CompiledEngine, add_compiled
from patchct_edge.runtime.engines.tensorrt.build import BuildOptions, Progress, build
from patchct_edge.runtime.engines.tensorrt.library import (
    Device,
    is_rtx,
    library_version,
    query_device,
)

COMPUTE_PRECISION = {"fp32": "fp32", "fp16": "fp16", "int8": "int8+fp16"}


def compile_engine(
    trt: ModuleType, bundle: Bundle, precision: str, options: BuildOptions, progress: Progress
) -> CompiledEngine:
    """Compile one precision for the GPU of this machine and put it into the bundle.

    Raises:
        EngineError: no GPU (TensorRT for RTX builds without one), or the library refuses the graph.
        BundleError: the bundle has no graph for this precision.
    """
    where = target_device(trt)
    kind = INT8_FP16_GRAPH if precision == "int8" else precision
    graph = bundle.graph_path(kind)
    cache = timing_cache(trt, where)
    began = time.monotonic()
    plan, timing = build(trt, graph, options, _read(cache), progress)
    record = CompiledEngine(
        name=_file_name(trt, precision, where, options),
        engine=TENSORRT,
        precision=precision,
        compute_precision=COMPUTE_PRECISION[precision],
        library=library_version(trt),
        device=where.name,
        compute_capability=where.compute_capability,
        driver=where.driver,
        batches=options.batches,
        similarity=options.similarity,
        build_seconds=round(time.monotonic() - began, 1),
        model=bundle.manifest.fingerprint,
        graph=bundle.manifest.files[graph.name],
    )
    add_compiled(bundle, record, plan)
    _write(cache, timing)
    return record


def target_device(trt: ModuleType) -> Device:
    """Return the GPU to build for; TensorRT for RTX finishes its engines where they run."""
    try:
        found = query_device()
    except EngineError:
        if not is_rtx(trt):
            raise
        return Device(ANY, ANY, "")
    return Device(ANY, ANY, found.driver) if is_rtx(trt) else found


def timing_cache(trt: ModuleType, where: Device) -> Path | None:
    """Return the file of what this version measured on this device; None without a home."""
    try:
        folder = user_folder("cache") / TENSORRT
    except RuntimeError:
        return None
    name = _plain(f"{library_version(trt)} {where.name} {where.driver}")
    return folder / f"{name}.timing"


def _file_name(trt: ModuleType, precision: str, where: Device, options: BuildOptions) -> str:
    similarity = " similarity" if options.similarity else ""
    return _plain(f"{library_version(trt)} {where.name} {precision}{similarity}")


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def _read(cache: Path | None) -> bytes:
    try:
        return cache.read_bytes() if cache else b""
    except OSError:
        return b""


def _write(cache: Path | None, timing: bytes) -> None:
    if cache is None or not timing:
        return
    with suppress(OSError):  # the next build only takes longer
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cache, timing)
