"""The Python API: open a bundle, tag images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from patchct_edge.arrays import RGB, Floats, ImageBatch
from patchct_edge.bundle import Bundle, Calibration, Tag
from patchct_edge.closeable import Closeable
from patchct_edge.errors import join_lines
from patchct_edge.runtime.engines.base import Engine
from patchct_edge.runtime.engines.select import EngineRequest, open_engine
from patchct_edge.runtime.tagging.pipeline import score_images
from patchct_edge.runtime.tagging.writers import TagRow


class Tagger(Closeable):
    """A bundle with an engine that runs it. Not thread-safe.

    Attributes:
        bundle: what was opened.
        engine: what runs it; `engine.record` says which library and arithmetic.
    """

    def __init__(self, bundle: Bundle, engine: Engine, *, calibrated: bool = True) -> None:
        self.bundle, self.engine = bundle, engine
        self._streaming = False
        default = Calibration.default(len(bundle.labels))
        self._calibration = bundle.calibration(engine.record.precision) if calibrated else default

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        *,
        engine: str | None = None,
        precision: str | None = None,
        latency: bool = False,
        trust: bool = False,
        calibrated: bool = True,
    ) -> Tagger:
        """Open a bundle with the fastest engine that fits this machine.

        Args:
            engine, precision: choose for yourself.
            latency: for one image at a time, instead of the throughput of many.
            trust: run a compiled engine that comes from another machine: it is code.
            calibrated: with the bundle's calibration, where it has one.

        Raises:
            BundleError: no bundle, or an altered one.
            EngineError: no engine can run it here.
        """
        opened = Bundle(bundle)
        request = EngineRequest(engine, precision, latency=latency, trust=trust)
        running = open_engine(opened, request)
        try:
            return cls(opened, running, calibrated=calibrated)
        except BaseException:
            running.close()
            raise

    def tag(
        self,
        image: str | os.PathLike[str] | bytes | RGB,
        *,
        threshold: float | None = None,
        top_k: int | None = None,
        all_scores: bool = False,
    ) -> list[Tag]:
        """Return the tags of one image (a file, its bytes, or RGB uint8 (H, W, 3)), best first.

        Args:
            threshold: one threshold, 0..1, in place of the calibrated ones.
            top_k: at most so many tags.
            all_scores: every label with its score, whatever the thresholds.

        Raises:
            ImageError: the image cannot be decoded.
            RuntimeError: a `tag_files` is under way.
        """
        self._check_idle()
        preprocessing = self.bundle.preprocessing
        pixels = (
            preprocessing.apply(image)
            if isinstance(image, np.ndarray)
            else preprocessing.read(image)
        )
        logits = self.engine.infer(pixels[None]).logits[0]
        return self._tags(logits, threshold, top_k, all_scores)

    def scores(self, pixels: ImageBatch) -> Floats:
        """Return the calibrated scores, float32 (B, M), of preprocessed images.

        Args:
            pixels: uint8 (B, size, size, 3).

        Raises:
            RuntimeError: a `tag_files` is under way.
        """
        self._check_idle()
        return self._calibration.scores(self.engine.infer(pixels).logits)

    @property
    def thresholds(self) -> Floats:
        """The score from which on each label is a tag, (M,)."""
        return self._calibration.thresholds

    def tag_files(
        self,
        paths: Iterable[Path],
        *,
        threshold: float | None = None,
        top_k: int | None = None,
        all_scores: bool = False,
        batch: int | None = None,
    ) -> Iterator[TagRow]:
        """Yield a row for every file, in order; one that cannot be read has an error row.

        Raises:
            RuntimeError: another `tag_files` is under way.
        """
        self._check_idle()
        self._streaming = True
        try:
            preprocessing = self.bundle.preprocessing
            for path, logits, error, _ in score_images(
                paths, self.engine, preprocessing, batch=batch
            ):
                if logits is None:
                    assert error is not None
                    yield TagRow(str(path), error=(type(error).__name__, join_lines(error)))
                else:
                    yield TagRow(str(path), self._tags(logits, threshold, top_k, all_scores))
        finally:
            self._streaming = False

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()

    def _check_idle(self) -> None:
        if self._streaming:  # the engine's oldest result belongs to it
            raise RuntimeError("a tag_files is under way: take all of its rows or close it first")

    def _tags(
        self,
        logits: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
        threshold: float | None,
        top_k: int | None,
        every: bool,
    ) -> list[Tag]:
        return self._calibration.tag_image(
            logits, self.bundle.labels, threshold=threshold, top_k=top_k, all_scores=every
        )
