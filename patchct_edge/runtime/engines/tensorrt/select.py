"""Which compiled engine of a bundle runs on this machine, and why another does not."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

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
from patchct_edge.runtime.engines.tensorrt.compile import target
from patchct_edge.runtime.engines.tensorrt.engine import TensorRTEngine
from patchct_edge.runtime.engines.tensorrt.library import (
    import_tensorrt,
    library_version,
    query_device,
)
from patchct_edge.runtime.engines.tensorrt.memory import open_memory


@dataclass(frozen=True)
class Choice:
    """The engine that fits, or the reason why none does."""

    record: CompiledEngine | None
    reason: str | None


def select_compiled(bundle: Bundle, precision: str, *, similarity: bool, trust: bool) -> Choice:
    """Choose among the engines of one precision, the first that fits.

    The library and the driver are asked only where there is an engine for them.

    Args:
        similarity: it must return patch-label similarities.
        trust: run one that was compiled elsewhere.
    """
    again = f"patchct compile {bundle.path} --engine tensorrt --precision {precision}"
    if similarity:
        again += " --with-similarity"
    records = [
        each
        for each in read_compiled(bundle, TENSORRT)
        if each.precision == precision and each.similarity >= similarity
    ]
    if not records:
        return Choice(None, f"not compiled; {again}")
    try:
        trt = import_tensorrt()
        query_device()  # before any object of the library is made
        here = target(trt)
    except EngineError as error:
        return Choice(None, error.what)
    reasons = []
    for record in records:
        misfit = record.misfit(bundle, library_version(trt), here.name, here.compute_capability)
        if misfit is not None:
            reasons.append(f"{misfit}; {again}")
        elif not (trust or is_trusted(bundle, record)):
            reasons.append(f"compiled elsewhere, and an engine is code; --trust-engine, or {again}")
        else:
            return Choice(record, None)
    return Choice(None, reasons[0])


def open_compiled(bundle: Bundle, record: CompiledEngine) -> Engine:
    """Open an engine that was chosen.

    Raises:
        EngineError: the library refuses it, or the GPU has too little memory left.
    """
    trt: ModuleType = import_tensorrt()
    about = EngineRecord(
        TENSORRT, record.precision, record.compute_precision, record.library, query_device().name
    )
    return TensorRTEngine(trt, read_plan(bundle, record), about, open_memory())
