"""Everything that a report measures of one engine with one precision."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import cycle, islice
from typing import Any

import numpy as np

from patchct_edge.bundle import Bundle, Calibration
from patchct_edge.datasets import Boxes, Dataset
from patchct_edge.evaluation.accuracy import Accuracy, compute_accuracy
from patchct_edge.evaluation.pointing import Pointing, play_pointing_game
from patchct_edge.evaluation.predictions import Predictions, open_and_predict
from patchct_edge.profiling.cold_start import ColdStart, measure_cold_start
from patchct_edge.profiling.latency import (
    BATCH_SIZES,
    SAMPLE_PHOTOS,
    WARM_UP_PHOTOS,
    Latency,
    SweepPoint,
    measure_batch_latencies,
    measure_latency,
    measure_throughput,
)
from patchct_edge.profiling.tegrastats import DeviceStats, record_device_stats
from patchct_edge.progress import Progress
from patchct_edge.runtime.engines.base import EngineRecord
from patchct_edge.runtime.engines.select import Candidate, EngineRequest, open_engine


@dataclass(frozen=True, eq=False)
class EngineReport:
    """One engine of one bundle on one dataset, with the calibration in the bundle.

    Args:
        bundle: its folder's name.
        model: the model's fingerprint.
        same_model: whether the report's reference is a precision of this model too.
        calibrated_on: fingerprint of the dataset that set the calibration; None: not calibrated.
        pointing: None without boxes.
        device_stats: while latency was measured; None where the device has no sensors to read.
        sweep: one point per batch size.
    """

    bundle: str
    model: str
    same_model: bool
    calibrated_on: str | None
    predictions: Predictions
    calibration: Calibration
    accuracy: Accuracy
    pointing: Pointing | None
    latency: Latency
    device_stats: DeviceStats | None
    sweep: tuple[SweepPoint, ...]
    cold_start: ColdStart

    @property
    def record(self) -> EngineRecord:
        return self.predictions.record

    @property
    def name(self) -> str:
        return f"{self.record.precision} {self.record.engine}"

    @property
    def images_per_second(self) -> float:
        """The throughput at the best batch size."""
        return max(point.images_per_second for point in self.sweep)

    def to_json(self) -> dict[str, Any]:
        return {
            "bundle": self.bundle,
            "model": self.model,
            "engine": self.record.to_json(),
            "calibration": self.calibration.to_json(self.predictions.labels),
            "accuracy": self.accuracy.to_json(),
            "pointing": None if self.pointing is None else self.pointing.to_json(),
            "latency": self.latency.to_json(),
            "device_stats": None if self.device_stats is None else asdict(self.device_stats),
            "sweep": [asdict(point) for point in self.sweep],
            "cold_start": self.cold_start.to_json(),
        }


def measure_engine(
    bundle: Bundle,
    candidate: Candidate,
    dataset: Dataset,
    boxes: Boxes | None,
    progress: Progress,
    *,
    trust: bool = False,
    same_model: bool = True,
) -> EngineReport:
    """Run an engine over a dataset, then time it.

    Raises:
        UserError: no image can be read, has a label of the model, or has a box.
        EngineError: the engine cannot be opened, or returned NaN or infinite scores.
    """
    name = f"{candidate.precision} {candidate.engine}"
    calibration = bundle.calibration(candidate.precision)
    calibration_record = bundle.calibration_record(candidate.precision) or {}

    # One engine at a time: the idle threads of another slow it down (docs/lab/experiments.md).
    request = EngineRequest(candidate.engine, candidate.precision, trust=trust)
    advance = progress.stage(f"accuracy, {name}", len(dataset))
    predictions = open_and_predict(bundle, dataset, request, advance)
    pointing = None
    if boxes is not None:
        advance = progress.stage(f"pointing, {name}", len(dataset))
        with open_engine(bundle, replace(request, similarity=True)) as engine:
            pointing = play_pointing_game(bundle, engine, dataset, boxes, advance)
    photos = list(islice(cycle(predictions.paths), max(BATCH_SIZES)))
    pixels = np.stack([bundle.preprocessing.read(path) for path in photos])
    with open_engine(bundle, replace(request, latency=True)) as engine:
        record = engine.record
        advance = progress.stage(f"latency, {name}", WARM_UP_PHOTOS + SAMPLE_PHOTOS)
        latency, device_stats = record_device_stats(
            partial(measure_latency, bundle, engine, calibration, predictions.paths, advance)
        )
        advance = progress.stage(f"batches, {name}", len(BATCH_SIZES))
        batch_latencies_ms = measure_batch_latencies(engine, pixels, advance)
    with open_engine(bundle, request) as engine:
        advance = progress.stage(f"throughput, {name}", len(batch_latencies_ms))
        sweep = measure_throughput(engine, pixels, batch_latencies_ms, advance)
    progress.stage(f"cold start, {name}", 1)
    cold_start = measure_cold_start(bundle.path, record, photos, trust=trust)
    return EngineReport(
        bundle=bundle.path.name,
        model=bundle.manifest.fingerprint,
        same_model=same_model,
        calibrated_on=calibration_record.get("dataset_fingerprint"),
        predictions=predictions,
        calibration=calibration,
        accuracy=compute_accuracy(predictions, calibration),
        pointing=pointing,
        latency=latency,
        device_stats=device_stats,
        sweep=sweep,
        cold_start=cold_start,
    )
