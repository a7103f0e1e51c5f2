"""Images to logits: a decode pool, the engine and the caller overlap; order is kept."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from itertools import islice, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from patchct_edge.arrays import RGB, Float32s
from patchct_edge.bundle import Preprocessing
from patchct_edge.errors import ImageError
from patchct_edge.parallel import map_in_order
from patchct_edge.runtime.engines.base import Engine, Outputs

PATIENCE = 30.0  # seconds for one file, reading included


class ScoredImage(NamedTuple):
    """One image: its logits (M,), or the error that came in their place.

    `similarity` is float32 (M, N), where the engine was opened with it.
    """

    path: Path
    logits: Float32s | None
    error: ImageError | None
    similarity: Float32s | None = None


def score_images(
    paths: Iterable[Path], engine: Engine, preprocessing: Preprocessing, *, batch: int | None = None
) -> Iterator[ScoredImage]:
    """Yield the logits of every image, in order; an image that cannot be read yields its error.

    Memory is bounded whatever the number of images.

    Args:
        batch: images a batch, the engine's own choice by default.
    """
    size = batch or engine.best_batch
    in_flight: deque[list[tuple[Path, ImageError | None]]] = deque()
    with closing(_decoded(paths, preprocessing, size)) as decoded:
        try:
            while group := list(islice(decoded, size)):
                good = [found for _, found in group if not isinstance(found, ImageError)]
                if good:
                    engine.submit(np.stack(good))
                in_flight.append([(p, f if isinstance(f, ImageError) else None) for p, f in group])
                if len(in_flight) > engine.concurrency:
                    yield from _landed(engine, in_flight.popleft())
            while in_flight:
                yield from _landed(engine, in_flight.popleft())
        finally:  # ended early: what is under way must not become the next caller's result
            for waiting in in_flight:
                with suppress(Exception):
                    list(_landed(engine, waiting))


def _decoded(
    paths: Iterable[Path], preprocessing: Preprocessing, size: int
) -> Generator[tuple[Path, RGB | ImageError], None, None]:
    """Yield what each path holds, read ahead by a pool that ends when this is closed."""

    def read(path: Path) -> tuple[Path, RGB | ImageError]:
        try:
            return path, preprocessing.read(path)
        except ImageError as error:
            return path, error

    def late(path: Path) -> tuple[Path, RGB | ImageError]:
        return path, ImageError(f"given up after {PATIENCE:g} s: {path}")

    workers = os.cpu_count() or 1
    yield from map_in_order(
        read,
        paths,
        workers=workers,
        max_pending=2 * size + workers,
        timeout_s=PATIENCE,
        on_timeout=late,
    )


def _landed(engine: Engine, group: list[tuple[Path, ImageError | None]]) -> Iterator[ScoredImage]:
    has_good = any(error is None for _, error in group)
    rows = _rows(engine.result()) if has_good else iter(())
    for path, error in group:
        logits, similarity = next(rows) if error is None else (None, None)
        yield ScoredImage(path, logits, error, similarity)


def _rows(outputs: Outputs) -> Iterator[tuple[Float32s, Float32s | None]]:
    similarity = repeat(None) if outputs.similarity is None else outputs.similarity
    return zip(outputs.logits, similarity, strict=False)
