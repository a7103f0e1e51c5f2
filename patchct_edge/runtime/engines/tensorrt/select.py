"""Select the compiled engine of a bundle that runs on this machine, or say why none does."""

from __future__ import annotations

from typing import NamedTuple

from patchct_edge.bundle import Bundle
from patchct_edge.errors import EngineError
from patchct_edge.runtime.engines.base import Engine, EngineRecord
from patchct_edge.runtime.engines.compiled import (
    TENSORRT,
    CompiledEngine,
    is_trusted,
    read_compiled,
    read_plan,
)
from patchct_edge.runtime.engines.tensorrt.compile import target_device
from patchct_edge.runtime.engines.tensorrt.engine import TensorRTEngine
from patchct_edge.runtime.engines.tensorrt.library import (
    import_tensorrt,
    library_version,
    query_device,
)
from patchct_edge.runtime.engines.tensorrt.memory import open_memory


class Selection(NamedTuple):
    """The compiled engine that fits, or the reason why none does: exactly one is None."""

    compiled: CompiledEngine | None
    skip_reason: str | None


def select_compiled(bundle: Bundle, precision: str, *, similarity: bool, trust: bool) -> Selection:
    """Select the first engine of a precision that fits this machine.

    The library and the driver are asked only if the bundle has an engine for them.

    Args:
        similarity: the engine must return the patch-label similarity.
        trust: accept an engine that was compiled elsewhere.
    """
    recompile = f"patchct compile {bundle.path} --engine tensorrt --precision {precision}"
    if similarity:
        recompile += " --with-maps"
    records = [
        record
        for record in read_compiled(bundle, TENSORRT)
        if record.precision == precision and record.similarity >= similarity
    ]
    if not records:
        return Selection(None, f"not compiled; run {recompile}")
    try:
        trt = import_tensorrt()
        query_device()  # before any object of the library exists
        device = target_device(trt)
    except EngineError as error:
        return Selection(None, error.problem)
    reasons = []
    for record in records:
        mismatch = record.describe_mismatch(
            bundle, library_version(trt), device.name, device.compute_capability
        )
        if mismatch is not None:
            reasons.append(f"{mismatch}; run {recompile}")
        elif not (trust or is_trusted(bundle, record)):
            reasons.append(
                "compiled on another machine, and an engine can execute code; pass "
                f"--trust-engine, or run {recompile}"
            )
        else:
            return Selection(record, None)
    return Selection(None, reasons[0])


def open_compiled(bundle: Bundle, compiled: CompiledEngine) -> Engine:
    """Open a selected engine on the first GPU.

    Raises:
        EngineError: the library refuses it, or the GPU has too little memory left.
    """
    trt = import_tensorrt()
    record = EngineRecord(
        TENSORRT,
        compiled.precision,
        compiled.compute_precision,
        compiled.library,
        query_device().name,
    )
    return TensorRTEngine(trt, read_plan(bundle, compiled), record, open_memory())
