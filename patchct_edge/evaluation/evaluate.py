"""Evaluate a bundle: accuracy on a labeled dataset, and whether its heat maps point at objects."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from patchct_edge.bundle import Bundle, Calibration
from patchct_edge.datasets import Boxes, Dataset
from patchct_edge.evaluation.accuracy import Accuracy, compute_accuracy, replace_nan_with_none
from patchct_edge.evaluation.pointing import Pointing, play_pointing_game
from patchct_edge.evaluation.predictions import check_labels, open_and_predict
from patchct_edge.progress import NO_PROGRESS, Progress
from patchct_edge.runtime.engines.base import EngineRecord
from patchct_edge.runtime.engines.select import ANY_ENGINE, EngineRequest, open_engine


@dataclass(frozen=True)
class Evaluation:
    """The figures of one engine of a bundle on one dataset.

    Args:
        fingerprint: of the model.
        record: the engine that ran.
        same_images: whether the thresholds were set on these very images: precision, recall and F1
            then look better than they are.
        pointing: by precision, that of the engine first, then FP32; empty without boxes.
    """

    fingerprint: str
    record: EngineRecord
    accuracy: Accuracy
    same_images: bool
    pointing: dict[str, Pointing] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return every figure by name; what is undefined is null."""
        pointing = {name: game.to_json() for name, game in self.pointing.items()}
        return {
            "model": self.fingerprint,
            "engine": self.record.to_json(),
            **self.accuracy.to_json(),
            **({"pointing": replace_nan_with_none(pointing)} if pointing else {}),
        }


def evaluate_bundle(
    bundle: Bundle,
    dataset: Dataset,
    *,
    boxes: Boxes | None = None,
    request: EngineRequest = ANY_ENGINE,
    uncalibrated: bool = False,
    progress: Progress = NO_PROGRESS,
) -> Evaluation:
    """Measure the accuracy of a bundle with its fastest engine that fits the request.

    Args:
        dataset: read with `labels=bundle.labels`.
        boxes: of the objects; the pointing game is played with them.
        uncalibrated: ignore the calibration: raw scores, threshold 0.5.

    Raises:
        UserError: no image can be read or has a label of the model, or none has a box.
        EngineError: no engine fits, or one returned NaN or infinite scores.
    """
    check_labels(bundle, dataset)
    predictions = open_and_predict(
        bundle, dataset, request, progress.stage("scoring", len(dataset))
    )
    record = predictions.record
    calibration = Calibration.default(len(bundle.labels))
    same_images = False
    if not uncalibrated:
        calibration = bundle.calibration(record.precision)
        calibration_record = bundle.calibration_record(record.precision) or {}
        same_images = calibration_record.get("dataset_fingerprint") == dataset.fingerprint()
    accuracy = compute_accuracy(predictions, calibration)
    pointing = {}
    if boxes is not None:
        pointing = _play_pointing_games(bundle, dataset, boxes, record, request, progress)
    return Evaluation(bundle.manifest.fingerprint, record, accuracy, same_images, pointing)


def _play_pointing_games(
    bundle: Bundle,
    dataset: Dataset,
    boxes: Boxes,
    record: EngineRecord,
    request: EngineRequest,
    progress: Progress,
) -> dict[str, Pointing]:
    """Play the game in the engine's own precision, and in FP32 with its fastest engine."""
    games: dict[str, Pointing] = {}
    for precision in dict.fromkeys((record.precision, "fp32")):
        engine_name = record.engine if precision == record.precision else None
        maps_request = replace(request, engine=engine_name, precision=precision, similarity=True)
        advance = progress.stage(f"pointing, {precision}", len(dataset))
        with open_engine(bundle, maps_request) as engine:
            games[precision] = play_pointing_game(bundle, engine, dataset, boxes, advance)
    return games
