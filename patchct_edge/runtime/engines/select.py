"""Which engine runs a bundle on this machine, and why the others were not taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from patchct_edge.bundle import Bundle, known_precision
from patchct_edge.errors import BundleError, EngineError, UserError, did_you_mean
from patchct_edge.runtime.engines import fake, onnxruntime, openvino
from patchct_edge.runtime.engines.base import Engine

# Fastest first (docs/results.md). On a CPU, FP16 saves space and no time, so FP32 comes before it.
ENGINES = (openvino.NAME, onnxruntime.NAME, fake.NAME)
PRECISIONS = ("int8", "fp32", "fp16")
_MISSING = {openvino.NAME: openvino.missing, onnxruntime.NAME: onnxruntime.missing}


@dataclass(frozen=True)
class Candidate:
    """An engine with a precision; `reason` says why it is not taken, None where it fits."""

    engine: str
    precision: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}: {self.reason or 'fits'}"


def candidates(
    bundle: Bundle, engine: str | None = None, precision: str | None = None
) -> list[Candidate]:
    """Return every engine and precision, fastest first, each with the reason against it.

    Args:
        engine, precision: the ones that were asked for; all others are then ruled out. The fake
            engine is taken only when asked for; a precision that did not pass its gate as well.
    """
    return list(_candidates(bundle, engine, precision))


def _candidates(bundle: Bundle, engine: str | None, precision: str | None) -> Iterator[Candidate]:
    """Yield the candidates one by one: to ask for a library is to import it, which takes time."""
    if engine is not None and engine not in ENGINES:
        raise UserError("unknown engine", got=engine, expected=did_you_mean(engine, ENGINES))
    if precision is not None:
        known_precision(precision)
    for name in ENGINES:
        for each in PRECISIONS:
            yield Candidate(name, each, _reason(bundle, name, each, engine, precision))


def _reason(
    bundle: Bundle, name: str, each: str, engine: str | None, precision: str | None
) -> str | None:
    if engine not in (None, name):
        return f"--engine {engine} was asked for"
    if name == fake.NAME and engine is None:
        return "a fake, taken only with --engine fake"
    if precision not in (None, each):
        return f"--precision {precision} was asked for"
    if name == fake.NAME:
        return None
    if each not in bundle.precisions():
        return f"the bundle has no {each} graph"
    missing = _MISSING[name]()
    if missing is not None:
        return missing
    failed = bundle.failed_stages(each)
    if failed and precision is None:
        return f"its gate failed at export ({failed[0].gate})"
    return None


def open_engine(
    bundle: Bundle,
    *,
    engine: str | None = None,
    precision: str | None = None,
    similarity: bool = False,
    latency: bool = False,
) -> Engine:
    """Open the fastest engine that fits.

    Args:
        similarity: also return patch-label similarities.
        latency: one batch at a time, as fast as it can be, instead of many overlapping ones.

    Raises:
        EngineError: none fits; the reasons are listed.
        BundleError: the graph was altered, or is not the one of the manifest.
    """
    chosen = next((c for c in _candidates(bundle, engine, precision) if c.reason is None), None)
    if chosen is None:
        found = candidates(bundle, engine, precision)
        reasons = "".join(f"\n    {c}" for c in found if engine in (None, c.engine))
        raise EngineError(f"no engine can run {bundle.path} here", got=reasons)
    opened = _open(bundle, chosen, similarity, latency)
    expected = bundle.manifest.recipe.size, len(bundle.labels)
    if (opened.size, opened.labels) != expected:
        opened.close()
        raise BundleError(
            f"the {chosen.precision} graph of {bundle.path} does not fit its manifest",
            got=f"{opened.size} px and {opened.labels} labels",
            expected=f"{expected[0]} px and {expected[1]} labels",
            fix="make the bundle anew with patchct export",
        )
    return opened


def _open(bundle: Bundle, chosen: Candidate, similarity: bool, latency: bool) -> Engine:
    if chosen.engine == fake.NAME:
        rows, columns = bundle.manifest.grid
        return fake.FakeEngine(bundle.manifest.recipe.size, len(bundle.labels), rows * columns)
    model = bundle.model(chosen.precision)
    if chosen.engine == onnxruntime.NAME:
        return onnxruntime.ONNXRuntimeEngine(model, chosen.precision, similarity=similarity)
    return openvino.OpenVINOEngine(model, chosen.precision, similarity=similarity, latency=latency)
