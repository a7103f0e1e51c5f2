"""Open the model of a stream: an engine, and the thresholds that turn its scores into tags."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from patchct_edge.arrays import Floats
from patchct_edge.bundle import Bundle
from patchct_edge.bundle.bundle import CALIBRATION_NAME
from patchct_edge.bundle.manifest import Manifest
from patchct_edge.runtime.stream.defaults import OFF_THRESHOLD_FACTOR
from patchct_edge.runtime.stream.settings import StreamSettings
from patchct_edge.runtime.stream.smoothing import Hysteresis
from patchct_edge.runtime.tagging.tagger import Tagger


class StreamModel(NamedTuple):
    """What tags the frames of a stream."""

    tagger: Tagger
    hysteresis: Hysteresis
    settings: StreamSettings  # from which it was opened


def open_model(settings: StreamSettings, current: StreamModel | None = None) -> StreamModel:
    """Open a model by the settings.

    Args:
        current: its engine is kept if graph, engine and precision are the same.

    Raises:
        UserError: the bundle or the engine cannot be opened.
    """
    bundle = Bundle(settings.model)
    calibrated = not settings.uncalibrated
    if current is not None and _can_keep_engine(current, bundle, settings):
        tagger = Tagger(bundle, current.tagger.engine, calibrated=calibrated)
    else:
        tagger = Tagger.open(
            settings.model,
            engine=settings.engine,
            precision=settings.precision,
            latency=True,
            calibrated=calibrated,
        )
    hysteresis = make_hysteresis(settings, bundle.labels, tagger.thresholds)
    return StreamModel(tagger, hysteresis, settings)


def make_hysteresis(
    settings: StreamSettings, labels: Sequence[str], calibrated_thresholds: Floats
) -> Hysteresis:
    """Return when labels turn on and off: as calibrated, unless `settings.thresholds` differ.

    Args:
        calibrated_thresholds: float (M,), 0..1, of the M labels.
    """
    on = np.array(calibrated_thresholds, np.float64)
    off = OFF_THRESHOLD_FACTOR * on
    for label, threshold in settings.thresholds.items():
        m = list(labels).index(label)
        on[m] = threshold.on
        off[m] = OFF_THRESHOLD_FACTOR * threshold.on if threshold.off is None else threshold.off
    return Hysteresis(on, off, settings.smoothing, settings.min_duration)


def _can_keep_engine(current: StreamModel, bundle: Bundle, settings: StreamSettings) -> bool:
    same_engine = (settings.engine, settings.precision) == (
        current.settings.engine,
        current.settings.precision,
    )
    return same_engine and (
        _without_calibration(bundle.manifest)
        == _without_calibration(current.tagger.bundle.manifest)
    )


def _without_calibration(manifest: Manifest) -> Manifest:
    files = {name: digest for name, digest in manifest.files.items() if name != CALIBRATION_NAME}
    return dataclasses.replace(manifest, files=files)
