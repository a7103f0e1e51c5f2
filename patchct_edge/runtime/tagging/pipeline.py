"""Score images: a decode pool, the engine and the caller overlap, and the order is kept."""

from __future__ import annotations

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
from patchct_edge.parallel import count_workers, map_in_order
from patchct_edge.runtime.engines.base import Engine, Outputs

IMAGE_TIMEOUT_S = 30.0  # to read and decode one file


class ScoredImage(NamedTuple):
    """One image with its logits, or with the error that explains why it has none."""

    path: Path
    logits: Float32s | None  # (M,)
    error: ImageError | None
    similarity: Float32s | None = None  # (M, N), if the engine was opened with it


class _DecodedImage(NamedTuple):
    path: Path
    pixels: RGB | None
    error: ImageError | None


_Batch = list[tuple[Path, ImageError | None]]


def score_images(
    paths: Iterable[Path], engine: Engine, preprocessing: Preprocessing, *, batch: int | None = None
) -> Generator[ScoredImage, None, None]:
    """Yield the logits of every image in order; an unreadable image yields its error instead.

    Memory is bounded, whatever the number of images.

    Args:
        batch: images per batch, `engine.best_batch` by default.
    """
    size = batch or engine.best_batch
    in_flight: deque[_Batch] = deque()
    with closing(_decode_images(paths, preprocessing, size)) as decoded_images:
        try:
            while images := list(islice(decoded_images, size)):
                pixels = [image.pixels for image in images if image.pixels is not None]
                if pixels:
                    engine.submit(np.stack(pixels))
                in_flight.append([(image.path, image.error) for image in images])
                if len(in_flight) > engine.concurrency:
                    yield from _take_results(engine, in_flight.popleft())
            while in_flight:
                yield from _take_results(engine, in_flight.popleft())
        finally:  # after an early end, no batch may become the next caller's result
            for unfinished in in_flight:
                with suppress(Exception):
                    list(_take_results(engine, unfinished))


def _decode_images(
    paths: Iterable[Path], preprocessing: Preprocessing, batch: int
) -> Generator[_DecodedImage, None, None]:
    """Yield the preprocessed image of each path, decoded ahead by a pool that ends with this."""

    def decode(path: Path) -> _DecodedImage:
        try:
            return _DecodedImage(path, preprocessing.read(path), None)
        except ImageError as error:
            return _DecodedImage(path, None, error)

    def time_out(path: Path) -> _DecodedImage:
        error = ImageError(f"gave up reading {path} after {IMAGE_TIMEOUT_S:g} s")
        return _DecodedImage(path, None, error)

    workers = count_workers()
    yield from map_in_order(
        decode,
        paths,
        workers=workers,
        max_pending=2 * batch + workers,
        timeout_s=IMAGE_TIMEOUT_S,
        on_timeout=time_out,
    )


def _take_results(engine: Engine, batch: _Batch) -> Iterator[ScoredImage]:
    was_submitted = any(error is None for _, error in batch)
    rows = _iter_rows(engine.result()) if was_submitted else iter(())
    for path, error in batch:
        logits, similarity = next(rows) if error is None else (None, None)
        yield ScoredImage(path, logits, error, similarity)


def _iter_rows(outputs: Outputs) -> Iterator[tuple[Float32s, Float32s | None]]:
    similarity = repeat(None) if outputs.similarity is None else outputs.similarity
    return zip(outputs.logits, similarity, strict=False)
