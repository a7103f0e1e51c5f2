"""Select the engine that runs a bundle on this machine, and say why the others were skipped."""

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

# Fastest first (docs/lab/measurements.md).
ENGINES = (TENSORRT, openvino.NAME, onnxruntime.NAME, fake.NAME)
_LIBRARY_CHECKS = {
    openvino.NAME: openvino.check_library,
    onnxruntime.NAME: onnxruntime.check_library,
}


@dataclass(frozen=True)
class Candidate:
    """An engine with a precision; `skip_reason` is None where it can run here."""

    engine: str
    precision: str
    skip_reason: str | None
    compiled: CompiledEngine | None = None

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}: {self.skip_reason or 'fits'}"


@dataclass(frozen=True)
class EngineRequest:
    """What the user asked for; every default leaves the choice to the machine.

    Args:
        engine: take this engine only. The fake engine is never taken unless it is named here.
        precision: take this precision only, even if its gate failed at export.
        similarity: also return the patch-label similarity.
        latency: run one batch at a time as fast as possible, instead of many overlapping ones.
        trust: run a compiled engine that comes from another machine. An engine is code.
    """

    engine: str | None = None
    precision: str | None = None
    similarity: bool = False
    latency: bool = False
    trust: bool = False


ANY_ENGINE = EngineRequest()


def iter_candidates(bundle: Bundle, request: EngineRequest = ANY_ENGINE) -> Iterator[Candidate]:
    """Yield every engine and precision, fastest first, each with the reason to skip it, if any.

    A generator, because asking a library imports it, which takes time.

    Raises:
        UserError: the request names an unknown engine or precision.
    """
    if request.engine is not None and request.engine not in ENGINES:
        suggestion = did_you_mean(request.engine, ENGINES)
        raise UserError("unknown engine", got=f"{request.engine}, {suggestion}")
    if request.precision is not None:
        check_precision(request.precision)
    for engine in ENGINES:
        for precision in GPU_SPEED_ORDER if engine == TENSORRT else CPU_SPEED_ORDER:
            reason = _skip_reason(bundle, engine, precision, request)
            if reason is not None or engine == fake.NAME:
                yield Candidate(engine, precision, reason)
            elif engine == TENSORRT:
                from patchct_edge.runtime.engines.tensorrt.select import select_compiled  # 10 ms

                selection = select_compiled(
                    bundle, precision, similarity=request.similarity, trust=request.trust
                )
                yield Candidate(engine, precision, selection.skip_reason, selection.compiled)
            else:
                yield Candidate(engine, precision, _LIBRARY_CHECKS[engine]())


def skipped_candidates(
    candidates: Iterable[Candidate], request: EngineRequest = ANY_ENGINE
) -> list[Candidate]:
    """Return the candidates that cannot run although the request does not rule them out."""
    return [
        candidate
        for candidate in candidates
        if candidate.skip_reason is not None
        and candidate.engine != fake.NAME
        and request.engine in (None, candidate.engine)
        and request.precision in (None, candidate.precision)
    ]


def runnable_candidates(bundle: Bundle, request: EngineRequest = ANY_ENGINE) -> list[Candidate]:
    """Return every engine and precision that can run here, fastest first, at least one.

    Raises:
        EngineError: none can run; the error lists the reasons.
        UserError: the request names an unknown engine or precision.
    """
    candidates = list(iter_candidates(bundle, request))
    runnable = [candidate for candidate in candidates if candidate.skip_reason is None]
    if not runnable:
        requested = [
            candidate
            for candidate in candidates
            if request.engine in (None, candidate.engine)
            and request.precision in (None, candidate.precision)
        ]
        raise EngineError(
            f"no engine can run {bundle.path} here",
            got="none of these fits:" + "".join(f"\n    {c}" for c in requested),
        )
    return runnable


def _skip_reason(bundle: Bundle, engine: str, precision: str, request: EngineRequest) -> str | None:
    """Return the reason to skip an engine that is known without asking its library."""
    if request.engine not in (None, engine):
        return f"ruled out by --engine {request.engine}"
    if engine == fake.NAME and request.engine is None:
        return "only for tests, with --engine fake"
    if request.precision not in (None, precision):
        return f"ruled out by --precision {request.precision}"
    if engine == fake.NAME:
        return None
    graph = INT8_FP16_GRAPH if (engine, precision) == (TENSORRT, "int8") else precision
    if graph_name(graph) not in bundle.manifest.files:
        return f"the bundle has no {graph} graph"
    if engine == TENSORRT and not has_compiled(bundle):
        return f"not compiled; run patchct compile {bundle.path} --engine tensorrt"
    failed_stages = bundle.failed_stages(graph)
    if failed_stages and request.precision is None:
        return f"its gate failed at export ({failed_stages[0].gate})"
    return None


def open_engine(bundle: Bundle, request: EngineRequest = ANY_ENGINE) -> Engine:
    """Open the fastest engine that fits this machine and the request.

    Raises:
        EngineError: no engine can run; the error lists the reasons.
        BundleError: the graph was altered, or does not fit the manifest.
        UserError: the request names an unknown engine or precision.
    """
    candidates = iter_candidates(bundle, request)
    candidate = next((c for c in candidates if c.skip_reason is None), None)
    if candidate is None:
        candidate = runnable_candidates(bundle, request)[0]  # raises, with the reasons
    engine = _open_candidate(bundle, candidate, request)
    size, label_count = bundle.preprocessing.size, len(bundle.labels)
    if (engine.size, engine.label_count) != (size, label_count):
        engine.close()
        raise BundleError(
            f"the {candidate.precision} graph of {bundle.path} does not fit its manifest",
            got=f"{engine.size} px and {engine.label_count} labels",
            expected=f"{size} px and {label_count} labels",
            fix="export the bundle again with patchct export",
        )
    return engine


def _open_candidate(bundle: Bundle, candidate: Candidate, request: EngineRequest) -> Engine:
    if candidate.compiled is not None:
        from patchct_edge.runtime.engines.tensorrt.select import open_compiled

        return open_compiled(bundle, candidate.compiled)
    if candidate.engine == fake.NAME:
        rows, columns = bundle.manifest.grid
        return fake.FakeEngine(bundle.preprocessing.size, len(bundle.labels), rows * columns)
    graph, precision = bundle.graph_path(candidate.precision), candidate.precision
    if candidate.engine == onnxruntime.NAME:
        return onnxruntime.ONNXRuntimeEngine(graph, precision, similarity=request.similarity)
    return openvino.OpenVINOEngine(
        graph, precision, similarity=request.similarity, latency=request.latency
    )
