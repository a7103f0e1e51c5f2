"""patchct compile: build engines for the GPU of this machine."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from patchct_edge.cli import console, options
from patchct_edge.errors import UserError

if TYPE_CHECKING:
    from patchct_edge.progress import Advance, Progress

logger = logging.getLogger(__name__)


class Compiler(str, Enum):
    """Engines that compile ahead of time."""

    TENSORRT = "tensorrt"


def compile_(
    bundle_path: options.BundlePath,
    engine: Annotated[Compiler, typer.Option(help="Library to compile with.")] = Compiler.TENSORRT,
    precision: Annotated[
        str, typer.Option(help="Precision: fp32, fp16 or int8; several as fp16,int8.")
    ] = "fp16",
    batch: Annotated[
        str,
        typer.Option(help="Images per batch: smallest,usual,largest; or the largest alone."),
    ] = "1,8,32",
    workspace: Annotated[
        int, typer.Option(min=1, help="Memory that one layer may use, MiB.")
    ] = 1024,
    with_maps: Annotated[
        bool,
        typer.Option("--with-maps", help="Keep the output that heat maps need; slightly slower."),
    ] = False,
) -> None:
    """Compile a bundle's graphs for this machine's GPU and store the engines in the bundle."""
    from patchct_edge.bundle import Bundle
    from patchct_edge.bundle.precisions import check_precision
    from patchct_edge.runtime.engines.tensorrt.build import BuildOptions
    from patchct_edge.runtime.engines.tensorrt.compile import compile_engine
    from patchct_edge.runtime.engines.tensorrt.library import import_tensorrt

    trt = import_tensorrt()
    bundle = Bundle(bundle_path)
    names = [check_precision(name.strip()) for name in precision.split(",")]
    build_options = BuildOptions(_parse_batches(batch), workspace, with_maps)
    for name in names:
        with console.progress() as bar, _stop_on_signals(bar, f"{engine.value} {name}") as progress:
            record = compile_engine(trt, bundle, name, build_options, progress)
        bundle = Bundle(bundle_path)
        batches = ",".join(map(str, record.batches))
        logger.info(
            f"compiled {record.name} in {record.build_seconds:.0f} s "
            f"({record.library}, GPU: {record.device}, batches: {batches})"
        )


@contextmanager
def _stop_on_signals(progress: Progress, name: str) -> Iterator[Progress]:
    """Stop a build at its next step after Ctrl-C or SIGTERM; show its phases after `name`.

    Python would raise KeyboardInterrupt inside the library's call, which loses it.
    """
    stop_requested = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    old_handlers = [signal.signal(number, lambda *_: stop_requested.set()) for number in numbers]
    try:
        yield _StoppableProgress(progress, name, stop_requested)
    finally:
        for number, handler in zip(numbers, old_handlers, strict=True):
            signal.signal(number, handler)


@dataclass(frozen=True)
class _StoppableProgress:
    """Shows a build's phases; raises KeyboardInterrupt at the next step once asked to stop."""

    progress: Progress
    name: str
    stop_requested: threading.Event

    def stage(self, name: str, total: int) -> Advance:
        advance = self.progress.stage(f"{self.name} {name}", total)

        def advance_or_stop(done: int, detail: str = "") -> None:
            advance(done, detail)
            if self.stop_requested.is_set():
                raise KeyboardInterrupt

        return advance_or_stop


def _parse_batches(text: str) -> tuple[int, int, int]:
    """Parse "smallest,usual,largest", or the largest alone."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers = [1, min(8, numbers[0]), numbers[0]]
    if len(numbers) != 3:
        raise UserError("--batch takes one number or three", got=text, expected="1,8,32")
    return numbers[0], numbers[1], numbers[2]
