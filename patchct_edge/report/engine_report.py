"""Everything that a report says of one engine with one precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import cycle, islice
from typing import Any

import numpy as np

from patchct_edge.bundle import Bundle, Calibration
from patchct_edge.datasets import Boxes, Dataset
from patchct_edge.evaluation.accuracy import Accuracy, compute_accuracy
from patchct_edge.evaluation.pointing import Pointing, play_pointing_game
from patchct_edge.evaluation.predictions import Predictions, predict
from patchct_edge.profiling.cold_start import ColdStart, measure_cold_start
from patchct_edge.profiling.latency import (
    BATCHES,
    SAMPLES,
    WARM_UP,
    Latency,
    SweepPoint,
    measure_batch_latencies,
    measure_latency,
    measure_throughput,
)
from patchct_edge.profiling.tegrastats import DeviceStats, record_device_stats
from patchct_edge.runtime.engines.base import EngineRecord
from patchct_edge.runtime.engines.select import Candidate, EngineRequest, open_engine

Progress = Callable[[str, int, int], None]  # phase, steps done, steps


@dataclass(frozen=True, eq=False)
class EngineReport:
    """One engine of one bundle on one data set, with the calibration that the bundle ships.

    `same_model` says whether the reference of the report is another precision of this model;
    `calibrated_on` is the fingerprint of the data that set the calibration. `pointing` is None
    where no boxes were given, `board` (while latency was measured) where nothing tells of it.
    """

    bundle: str
    model: str  # fingerprint
    same_model: bool
    calibrated_on: str | None
    judged: Predictions
    calibration: Calibration
    accuracy: Accuracy
    pointing: Pointing | None
    latency: Latency
    board: DeviceStats | None
    sweep: tuple[SweepPoint, ...]
    cold_start: ColdStart

    @property
    def record(self) -> EngineRecord:
        return self.judged.record

    @property
    def name(self) -> str:
        return f"{self.record.precision} {self.record.engine}"

    @property
    def images_per_second(self) -> float:
        """Of the best batch size."""
        return max(point.images_per_second for point in self.sweep)

    def to_json(self) -> dict[str, Any]:
        return {
            "bundle": self.bundle,
            "model": self.model,
            "engine": self.judged.record.to_json(),
            "calibration": self.calibration.to_json(self.judged.labels),
            "accuracy": self.accuracy.to_json(),
            "pointing": None if self.pointing is None else self.pointing.to_json(),
            "latency": self.latency.to_json(),
            "board": None if self.board is None else asdict(self.board),
            "sweep": [asdict(point) for point in self.sweep],
            "cold_start": self.cold_start.to_json(),
        }


def measure_engine(
    bundle: Bundle,
    chosen: Candidate,
    data: Dataset,
    boxes: Boxes | None,
    progress: Progress,
    *,
    trust: bool = False,
    same_model: bool = True,
) -> EngineReport:
    """Run an engine over a data set, then time it.

    Raises:
        UserError, EngineError: as of `judged`, `pointing` and `open_engine`.
    """
    name = f"{chosen.precision} {chosen.engine}"
    calibration = bundle.calibration(chosen.precision)

    def told(phase: str, steps: int) -> Callable[[int], None]:
        return lambda done: progress(f"{phase}, {name}", done, steps)

    # One engine at a time: another's idle threads are in the way (docs/experiments.md).
    request = EngineRequest(chosen.engine, chosen.precision, trust=trust)
    with open_engine(bundle, request) as streamed:
        said = predict(streamed, bundle.preprocessing, data, told("accuracy", len(data)))
    game = None
    if boxes is not None:
        with open_engine(bundle, replace(request, similarity=True)) as explaining:
            game = play_pointing_game(bundle, explaining, data, boxes, told("pointing", len(data)))
    photos = list(islice(cycle(said.paths), max(BATCHES)))
    pixels = np.stack([bundle.preprocessing.read(path) for path in photos])
    with open_engine(bundle, replace(request, latency=True)) as single:
        record = single.record
        counted = told("latency", WARM_UP + SAMPLES)
        singly, board = record_device_stats(
            partial(measure_latency, bundle, single, calibration, said.paths, counted)
        )
        alone = measure_batch_latencies(single, pixels, told("batches", len(BATCHES)))
    with open_engine(bundle, request) as streamed:
        batches = measure_throughput(streamed, pixels, alone, told("throughput", len(alone)))
    progress(f"cold start, {name}", 0, 1)
    cold = measure_cold_start(bundle.path, record, photos, trust=trust)
    return EngineReport(
        bundle.path.name,
        bundle.manifest.fingerprint,
        same_model,
        (bundle.calibration_record(chosen.precision) or {}).get("data"),
        said,
        calibration,
        compute_accuracy(said, calibration),
        game,
        singly,
        board,
        batches,
        cold,
    )
