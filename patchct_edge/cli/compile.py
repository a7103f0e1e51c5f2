"""patchct compile: an engine for the GPU of this machine."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from patchct_edge.cli import console, options
from patchct_edge.errors import UserError

if TYPE_CHECKING:
    from patchct_edge.runtime.engines.tensorrt.build import Progress

logger = logging.getLogger(__name__)


class CompiledFor(str, Enum):
    """Engines that compile ahead of time."""

    TENSORRT = "tensorrt"


def compile_(
    bundle: options.BundlePath,
    engine: Annotated[CompiledFor, typer.Option(help="Library to compile with.")] = (
        CompiledFor.TENSORRT
    ),
    precision: Annotated[
        str, typer.Option(help="fp32, fp16, int8, or several: fp16,int8.")
    ] = "fp16",
    batch: Annotated[
        str,
        typer.Option(help="Images a batch: smallest,usual,largest; or the largest alone."),
    ] = "1,8,32",
    workspace: Annotated[
        int, typer.Option(min=1, help="Memory that one layer may use, MiB.")
    ] = 1024,
    with_similarity: Annotated[
        bool, typer.Option("--with-similarity", help="Keep what explaining needs; a bit slower.")
    ] = False,
) -> None:
    """Compile a bundle's graphs for this machine's GPU; the engines go into the bundle."""
    from patchct_edge.bundle import Bundle
    from patchct_edge.bundle.precisions import check_precision
    from patchct_edge.runtime.engines.tensorrt.build import BuildOptions
    from patchct_edge.runtime.engines.tensorrt.compile import compile_engine
    from patchct_edge.runtime.engines.tensorrt.library import import_tensorrt

    trt = import_tensorrt()
    opened = Bundle(bundle)
    names = [check_precision(name.strip()) for name in precision.split(",")]
    chosen = BuildOptions(_batches(batch), workspace, with_similarity)
    for name in names:
        with console.phases(f"{engine.value} {name}") as shown, _stoppable(shown) as progress:
            record = compile_engine(trt, opened, name, chosen, progress)
        opened = Bundle(bundle)
        logger.info(
            f"compiled {record.name} in {record.build_seconds:.0f} s "
            f"({record.library}, {record.device}, batches {chosen.batches})"
        )


@contextmanager
def _stoppable(progress: Progress) -> Iterator[Progress]:
    """Let Ctrl-C and SIGTERM end a build at its next step.

    Raised as usual, the interrupt would come up inside the library's call, and be lost there.
    """
    stopped = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stopped.set()) for number in numbers]

    def step(phase: str, done: int, steps: int) -> None:
        progress(phase, done, steps)
        if stopped.is_set():
            raise KeyboardInterrupt

    try:
        yield step
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _batches(text: str) -> tuple[int, int, int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers = [1, min(8, numbers[0]), numbers[0]]
    if len(numbers) != 3:
        raise UserError("--batch takes one number or three", got=text, expected="1,8,32")
    return numbers[0], numbers[1], numbers[2]
