"""The Python API for tagging: open a bundle, tag images."""

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
    """Tag images with a bundle and an engine that runs it. Not thread-safe.

    Attributes:
        bundle: the model with its labels, preprocessing and calibrations.
        engine: the engine; `engine.record` names its library and arithmetic.
    """

    def __init__(self, bundle: Bundle, engine: Engine, *, calibrated: bool = True) -> None:
        self.bundle, self.engine = bundle, engine
        self._is_tagging_files = False
        if calibrated:
            self._calibration = bundle.calibration(engine.record.precision)
        else:
            self._calibration = Calibration.default(len(bundle.labels))

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        engine: str | None = None,
        precision: str | None = None,
        latency: bool = False,
        trust: bool = False,
        calibrated: bool = True,
    ) -> Tagger:
        """Open a bundle with the fastest engine that fits this machine.

        Args:
            path: the bundle, a folder NAME.patchct.
            engine: take this engine only: tensorrt, openvino, onnxruntime or fake.
            precision: take this precision only: int8, fp16 or fp32.
            latency: optimize for one image at a time, instead of the throughput of many.
            trust: run a compiled engine that comes from another machine. An engine is code.
            calibrated: use the bundle's calibration if it has one; otherwise the scores are raw
                and every threshold is 0.5.

        Raises:
            BundleError: the path is not a bundle, or the bundle was altered.
            EngineError: no engine can run it on this machine.
            UserError: the engine or precision is unknown.
        """
        bundle = Bundle(path)
        request = EngineRequest(engine, precision, latency=latency, trust=trust)
        opened_engine = open_engine(bundle, request)
        try:
            return cls(bundle, opened_engine, calibrated=calibrated)
        except BaseException:
            opened_engine.close()
            raise

    def tag(
        self,
        image: str | os.PathLike[str] | bytes | RGB,
        *,
        threshold: float | None = None,
        top_k: int | None = None,
        all_scores: bool = False,
    ) -> list[Tag]:
        """Return the tags of one image, highest score first.

        Args:
            image: a file, the bytes of a file, or RGB pixels, uint8 (H, W, 3).
            threshold: one threshold, 0..1, instead of those of the calibration.
            top_k: return at most this many tags.
            all_scores: return every label with its score, whatever its threshold.

        Raises:
            ImageError: the image cannot be decoded.
            RuntimeError: a `tag_files` has not ended.
        """
        self._check_idle()
        preprocessing = self.bundle.preprocessing
        if isinstance(image, np.ndarray):
            pixels = preprocessing.apply(image)
        else:
            pixels = preprocessing.read(image)
        logits = self.engine.infer(pixels[None]).logits[0]
        return self._calibration.tag_image(
            logits, self.bundle.labels, threshold=threshold, top_k=top_k, all_scores=all_scores
        )

    def score(self, images: ImageBatch) -> Floats:
        """Return the scores of preprocessed images, float32 (B, M), 0..1.

        Args:
            images: uint8 (B, size, size, 3).

        Raises:
            RuntimeError: a `tag_files` has not ended.
        """
        self._check_idle()
        return self._calibration.scores(self.engine.infer(images).logits)

    @property
    def thresholds(self) -> Floats:
        """The score from which on each label is a tag, float64 (M,), 0..1."""
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
        """Yield a row for every file in order; an unreadable file yields a row with its error.

        Args:
            threshold: see `tag`.
            top_k: see `tag`.
            all_scores: see `tag`.
            batch: images per batch, the engine's best batch by default.

        Raises:
            RuntimeError: another `tag_files` has not ended.
        """
        self._check_idle()
        self._is_tagging_files = True
        try:
            for path, logits, error, _ in score_images(
                paths, self.engine, self.bundle.preprocessing, batch=batch
            ):
                if logits is None:
                    assert error is not None
                    yield TagRow(str(path), error=(type(error).__name__, join_lines(error)))
                    continue
                tags = self._calibration.tag_image(
                    logits,
                    self.bundle.labels,
                    threshold=threshold,
                    top_k=top_k,
                    all_scores=all_scores,
                )
                yield TagRow(str(path), tags)
        finally:
            self._is_tagging_files = False

    def close(self) -> None:
        """Close the engine and free its memory."""
        self.engine.close()

    def _check_idle(self) -> None:
        if self._is_tagging_files:  # the engine's oldest result belongs to it
            raise RuntimeError(
                "a call of tag_files has not ended: take all of its rows or close it first"
            )
