"""An ONNX graph to an engine, on TensorRT 10.3 to 11 and TensorRT for RTX.

Always strongly typed: the precision stands in the graph, INT8 as QDQ pairs. What some version lacks
is asked for before it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from patchct_edge.errors import EngineError, UserError
from patchct_edge.runtime.engines.tensorrt.library import is_rtx

INPUT, LOGITS, SIMILARITY = "image", "logits", "similarity"
WORKSPACE_MB = 1024  # lets an Orin Nano of 8 GB, which shares them with the CPU, finish
SHOWN = 5  # errors of the parser
Progress = Callable[[str, int, int], None]  # phase, steps done, steps


@dataclass(frozen=True)
class BuildOptions:
    """What an engine is built for.

    Args:
        batches: smallest, most usual and largest number of images in a batch.
        workspace_mb: memory that a layer may use for the time of its computation, in MiB.
        similarity: keep the patch-label similarity as a second output.
    """

    batches: tuple[int, int, int] = (1, 8, 32)
    workspace_mb: int = WORKSPACE_MB
    similarity: bool = False

    def __post_init__(self) -> None:
        least, usual, most = self.batches
        if not 1 <= least <= usual <= most:
            raise UserError("the batches are not in order", got=self.batches, expected="1,8,32")
        if self.workspace_mb < 1:
            raise UserError("the workspace must be positive", got=self.workspace_mb)


def build(
    trt: ModuleType, model: Path, options: BuildOptions, timing: bytes, progress: Progress
) -> tuple[bytes, bytes]:
    """Build an engine; return it and the timing cache (b"" of TensorRT for RTX), both serialised.

    Args:
        timing: the cache of an earlier build on this device and version, or b"".
        progress: called with each step; KeyboardInterrupt in it, or Ctrl-C, stops the build.

    Raises:
        EngineError: the graph does not parse, or does not build; with what the library said.
        KeyboardInterrupt: the build was stopped.
    """
    log = logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(_strongly_typed(trt))
    _parse(trt, network, log, model)
    if not options.similarity:
        _drop_output(network, SIMILARITY)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    profile = builder.create_optimization_profile()
    shape = tuple(network.get_input(0).shape)[1:]
    profile.set_shape(INPUT, *((batch, *shape) for batch in options.batches))
    config.add_optimization_profile(profile)
    if not is_rtx(trt):  # which has no timing cache
        config.set_timing_cache(config.create_timing_cache(timing), ignore_mismatch=False)
    monitor = _monitor(trt, progress)
    config.progress_monitor = monitor
    engine = builder.build_serialized_network(network, config)
    if monitor.stopped:
        raise KeyboardInterrupt
    if engine is None:
        raise EngineError(
            f"{trt.__name__} cannot build {model.name}",
            got="\n".join(log.errors[-SHOWN:]),
            fix="a smaller --workspace or --batch where memory ran out",
        )
    measured = b"" if is_rtx(trt) else bytes(config.get_timing_cache().serialize())
    return bytes(engine), measured


def _strongly_typed(trt: ModuleType) -> int:
    # TensorRT for RTX may know no other kind, and so no flag for it.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse(trt: ModuleType, network: Any, log: Any, model: Path) -> None:
    parser = trt.OnnxParser(network, log)
    if parser.parse_from_file(str(model)):
        return
    errors = [parser.get_error(n) for n in range(min(parser.num_errors, SHOWN))]
    lines = [f"{e.node_name() or 'the graph'} ({e.node_operator()}): {e.desc()}" for e in errors]
    raise EngineError(
        f"{trt.__name__} {trt.__version__} cannot parse {model.name}",
        got="\n".join(lines or log.errors[-SHOWN:]),
        fix="export again with this version of patchct-edge; a newer TensorRT knows more operators",
    )


def _drop_output(network: Any, name: str) -> None:
    for n in range(network.num_outputs):
        if network.get_output(n).name == name:
            network.unmark_output(network.get_output(n))
            return


def logger(trt: ModuleType) -> Any:
    """Return a logger of TensorRT whose `errors` are the messages of what went wrong."""

    class Log(trt.ILogger):  # type: ignore[name-defined, misc]
        """Keeps what went wrong, for the error that names it."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return Log()


def _monitor(trt: ModuleType, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined, misc]
        """Hands the steps of the outermost phases on, and stops the build when told to."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped = False
            self._steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self._steps[phase] = steps

        def step_complete(self, phase: str, step: int) -> bool:
            try:
                progress(phase, step + 1, self._steps.get(phase, 0))
            except KeyboardInterrupt:
                self.stopped = True
            return not self.stopped

        def phase_finish(self, phase: str) -> None:
            self._steps.pop(phase, None)

    return Monitor()
