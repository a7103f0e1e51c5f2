"""Build an engine from an ONNX graph, with TensorRT 10.3 to 11 or TensorRT for RTX.

Networks are always strongly typed: the graph itself fixes the precision, INT8 as QDQ pairs. The
code asks for a feature that some versions lack before it uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from patchct_edge.errors import EngineError, UserError
from patchct_edge.progress import Advance, Progress
from patchct_edge.runtime.engines.tensorrt.library import is_rtx

INPUT, LOGITS, SIMILARITY = "image", "logits", "similarity"
WORKSPACE_MB = 1024  # small enough for an Orin Nano, whose 8 GB serve the CPU as well
MAX_SHOWN_ERRORS = 5


@dataclass(frozen=True)
class BuildOptions:
    """The batch sizes, memory and outputs that an engine is built for.

    Args:
        batches: smallest, usual and largest number of images in a batch.
        workspace_mb: temporary memory that one layer may use, in MiB.
        similarity: keep the patch-label similarity as a second output.

    Raises:
        UserError: the batches are not in order, or the workspace is not positive.
    """

    batches: tuple[int, int, int] = (1, 8, 32)
    workspace_mb: int = WORKSPACE_MB
    similarity: bool = False

    def __post_init__(self) -> None:
        smallest, usual, largest = self.batches
        if not 1 <= smallest <= usual <= largest:
            raise UserError(
                "the batch sizes are not in order",
                got=",".join(map(str, self.batches)),
                expected="smallest,usual,largest, such as 1,8,32",
            )
        if self.workspace_mb < 1:
            raise UserError("the workspace must be at least 1 MiB", got=self.workspace_mb)


def build(
    trt: ModuleType, graph: Path, options: BuildOptions, timing_cache: bytes, progress: Progress
) -> tuple[bytes, bytes]:
    """Build an engine and return it, serialized, with the new timing cache.

    Args:
        trt: TensorRT, or TensorRT for RTX, whose timing cache is always b"".
        graph: the ONNX file.
        timing_cache: from an earlier build on this device and version, or b"".
        progress: shows each phase of the build; a KeyboardInterrupt raised in it stops the build.

    Raises:
        EngineError: the graph does not parse or does not build; with the library's messages.
        KeyboardInterrupt: the build was stopped.
    """
    logger = create_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(_strongly_typed_flag(trt))
    _parse(trt, network, logger, graph)
    if not options.similarity:
        _drop_output(network, SIMILARITY)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    profile = builder.create_optimization_profile()
    image_shape = tuple(network.get_input(0).shape)[1:]
    profile.set_shape(INPUT, *((batch, *image_shape) for batch in options.batches))
    config.add_optimization_profile(profile)
    if not is_rtx(trt):
        cache = config.create_timing_cache(timing_cache)
        config.set_timing_cache(cache, ignore_mismatch=False)
    monitor = _create_monitor(trt, progress)
    config.progress_monitor = monitor
    engine = builder.build_serialized_network(network, config)
    if monitor.stopped:
        raise KeyboardInterrupt
    if engine is None:
        raise EngineError(
            f"{trt.__name__} cannot build {graph.name}",
            got="\n".join(logger.errors[-MAX_SHOWN_ERRORS:]),
            fix="if memory ran out, use a smaller --workspace or --batch",
        )
    new_timing_cache = b"" if is_rtx(trt) else bytes(config.get_timing_cache().serialize())
    return bytes(engine), new_timing_cache


def _strongly_typed_flag(trt: ModuleType) -> int:
    # TensorRT for RTX may build no other kind of network, and then has no flag for it.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse(trt: ModuleType, network: Any, logger: Any, graph: Path) -> None:
    parser = trt.OnnxParser(network, logger)
    if parser.parse_from_file(str(graph)):
        return
    errors = [parser.get_error(n) for n in range(min(parser.num_errors, MAX_SHOWN_ERRORS))]
    lines = [f"{e.node_name() or 'the graph'} ({e.node_operator()}): {e.desc()}" for e in errors]
    raise EngineError(
        f"{trt.__name__} {trt.__version__} cannot parse {graph.name}",
        got="\n".join(lines or logger.errors[-MAX_SHOWN_ERRORS:]),
        fix="export again with this version of patchct-edge, or install a newer TensorRT",
    )


def _drop_output(network: Any, name: str) -> None:
    for n in range(network.num_outputs):
        if network.get_output(n).name == name:
            network.unmark_output(network.get_output(n))
            return


def create_logger(trt: ModuleType) -> Any:
    """Create a TensorRT logger that keeps the error messages in `errors` and drops the rest."""

    class ErrorLogger(trt.ILogger):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return ErrorLogger()


def _create_monitor(trt: ModuleType, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined, misc]
        """Shows the phase whose step was completed last; a KeyboardInterrupt stops the build."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped = False
            self._total_steps: dict[str, int] = {}
            self._current: tuple[str, Advance] | None = None

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self._total_steps[phase] = steps

        def step_complete(self, phase: str, step: int) -> bool:
            try:
                if self._current is None or self._current[0] != phase:
                    self._current = phase, progress.stage(phase, self._total_steps.get(phase, 0))
                self._current[1](step + 1)
            except KeyboardInterrupt:
                self.stopped = True
            return not self.stopped

        def phase_finish(self, phase: str) -> None:
            self._total_steps.pop(phase, None)

    return Monitor()
