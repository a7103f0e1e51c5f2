"""Which engine runs a bundle on this machine, and why the others were not taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from patchct_edge.bundle import Bundle
from patchct_edge.bundle.precisions import (
    CPU_SPEED_ORDER,
    GPU_SPEED_ORDER,
    INT8_FP16_GRAPH,
    check_precision,
    graph_name,
)
from patchct_edge.errors import BundleError, EngineError, UserError, did_you_mean
from patchct_edge.runtime.engines import fake, onnxruntime, openvino
from patchct_edge.runtime.engines.base import Engine
from patchct_edge.runtime.engines.compiled import TENSORRT, CompiledEngine, has_compiled

# Fastest first (docs/results.md).
ENGINES = (TENSORRT, openvino.NAME, onnxruntime.NAME, fake.NAME)
_MISSING = {openvino.NAME: openvino.missing, onnxruntime.NAME: onnxruntime.missing}


@dataclass(frozen=True)
class Candidate:
    """An engine with a precision; `reason` says why it is not taken, None where it fits."""

    engine: str
    precision: str
    reason: str | None
    compiled: CompiledEngine | None = None

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}: {self.reason or 'fits'}"


@dataclass(frozen=True)
class EngineRequest:
    """What was asked for.

    Args:
        engine, precision: all others are then ruled out. The fake engine is taken only when asked
            for; a precision that did not pass its gate as well.
        similarity: also return patch-label similarities.
        trust: run a compiled engine that comes from another machine: it is code.
    """

    engine: str | None = None
    precision: str | None = None
    similarity: bool = False
    trust: bool = False


ANY_ENGINE = EngineRequest()


def iter_candidates(bundle: Bundle, wish: EngineRequest = ANY_ENGINE) -> Iterator[Candidate]:
    """Yield every engine and precision, fastest first, each with the reason against it.

    One by one: to ask for a library is to import it, which takes time.
    """
    engine, precision = wish.engine, wish.precision
    if engine is not None and engine not in ENGINES:
        raise UserError("unknown engine", got=engine, expected=did_you_mean(engine, ENGINES))
    if precision is not None:
        check_precision(precision)
    for name in ENGINES:
        for each in GPU_SPEED_ORDER if name == TENSORRT else CPU_SPEED_ORDER:
            reason = _ruled_out(bundle, name, each, wish)
            if reason is not None or name == fake.NAME:
                yield Candidate(name, each, reason)
            elif name == TENSORRT:
                from patchct_edge.runtime.engines.tensorrt.select import select_compiled  # 10 ms

                found = select_compiled(bundle, each, similarity=wish.similarity, trust=wish.trust)
                yield Candidate(name, each, found.reason, found.record)
            else:
                yield Candidate(name, each, _MISSING[name]())


def skipped_candidates(
    found: Iterable[Candidate], wish: EngineRequest = ANY_ENGINE
) -> list[Candidate]:
    """Return those that do not fit and that nobody has ruled out by what was asked for."""
    return [
        each
        for each in found
        if each.reason is not None
        and each.engine != fake.NAME
        and wish.engine in (None, each.engine)
        and wish.precision in (None, each.precision)
    ]


def runnable_candidates(bundle: Bundle, wish: EngineRequest = ANY_ENGINE) -> list[Candidate]:
    """Return every engine and precision that fits, fastest first, at least one.

    Raises:
        EngineError: none fits; the reasons are listed.
    """
    found = list(iter_candidates(bundle, wish))
    fits = [each for each in found if each.reason is None]
    if not fits:
        reasons = "".join(f"\n    {c}" for c in found if wish.engine in (None, c.engine))
        raise EngineError(f"no engine can run {bundle.path} here", got=reasons)
    return fits


def _ruled_out(bundle: Bundle, name: str, precision: str, wish: EngineRequest) -> str | None:
    """Return what speaks against an engine before its library is asked."""
    if wish.engine not in (None, name):
        return f"--engine {wish.engine} was asked for"
    if name == fake.NAME and wish.engine is None:
        return "a fake, taken only with --engine fake"
    if wish.precision not in (None, precision):
        return f"--precision {wish.precision} was asked for"
    if name == fake.NAME:
        return None
    graph = INT8_FP16_GRAPH if (name, precision) == (TENSORRT, "int8") else precision
    if graph_name(graph) not in bundle.manifest.files:
        return f"the bundle has no {graph} graph"
    if name == TENSORRT and not has_compiled(bundle):
        return f"not compiled; patchct compile {bundle.path} --engine tensorrt"
    failed = bundle.failed_stages(graph)
    if failed and wish.precision is None:
        return f"its gate failed at export ({failed[0].gate})"
    return None


def open_engine(
    bundle: Bundle,
    *,
    engine: str | None = None,
    precision: str | None = None,
    similarity: bool = False,
    latency: bool = False,
    trust: bool = False,
) -> Engine:
    """Open the fastest engine that fits.

    Args:
        engine, precision, similarity, trust: as of a `EngineRequest`.
        latency: one batch at a time, as fast as it can be, instead of many overlapping ones.

    Raises:
        EngineError: none fits; the reasons are listed.
        BundleError: the graph was altered, or is not the one of the manifest.
    """
    wish = EngineRequest(engine, precision, similarity, trust)
    chosen = next((c for c in iter_candidates(bundle, wish) if c.reason is None), None)
    if chosen is None:
        chosen = runnable_candidates(bundle, wish)[0]  # raises, with the reasons
    opened = _open(bundle, chosen, similarity, latency)
    expected = bundle.preprocessing.size, len(bundle.labels)
    if (opened.size, opened.labels) != expected:
        opened.close()
        raise BundleError(
            f"the {chosen.precision} graph of {bundle.path} does not fit its manifest",
            got=f"{opened.size} px and {opened.labels} labels",
            expected=f"{expected[0]} px and {expected[1]} labels",
            fix="make a new bundle with patchct export",
        )
    return opened


def _open(bundle: Bundle, chosen: Candidate, similarity: bool, latency: bool) -> Engine:
    if chosen.compiled is not None:
        from patchct_edge.runtime.engines.tensorrt.select import open_compiled

        return open_compiled(bundle, chosen.compiled)
    if chosen.engine == fake.NAME:
        rows, columns = bundle.manifest.grid
        return fake.FakeEngine(bundle.preprocessing.size, len(bundle.labels), rows * columns)
    model = bundle.graph_path(chosen.precision)
    if chosen.engine == onnxruntime.NAME:
        return onnxruntime.ONNXRuntimeEngine(model, chosen.precision, similarity=similarity)
    return openvino.OpenVINOEngine(model, chosen.precision, similarity=similarity, latency=latency)
