"""Cameras, model and outlets put together from the settings of a stream, run, and taken apart."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from patchct_edge.arrays import Floats
from patchct_edge.bundle import Bundle
from patchct_edge.bundle.bundle import CALIBRATION_NAME
from patchct_edge.runtime.stream import systemd
from patchct_edge.runtime.stream.defaults import OFF_THRESHOLD_FACTOR
from patchct_edge.runtime.stream.loop import Control, Loop, Model
from patchct_edge.runtime.stream.settings import (
    CameraSettings,
    JSONLSettings,
    MQTTSettings,
    SinkSettings,
    SnapshotsSettings,
    StreamSettings,
    VideoSettings,
    WebhookSettings,
)
from patchct_edge.runtime.stream.sinks.base import DeliveryCounts, Sink, SinkWorker
from patchct_edge.runtime.stream.sinks.jsonl import JSONLSink
from patchct_edge.runtime.stream.sinks.mqtt import MQTTSink
from patchct_edge.runtime.stream.sinks.snapshots import SnapshotsSink
from patchct_edge.runtime.stream.sinks.video import VideoSink
from patchct_edge.runtime.stream.sinks.webhook import WebhookSink
from patchct_edge.runtime.stream.smoothing import Hysteresis
from patchct_edge.runtime.stream.sources.camera import Camera, FrameCounts
from patchct_edge.runtime.stream.validate import validate
from patchct_edge.runtime.tagging.tagger import Tagger

PATIENCE = 10.0  # seconds that outlets have to deliver what waits where the sources ended, ...
FAREWELL = 0.4  # ... and where somebody waits for the end
LOOK = 0.02  # seconds between two looks whether they have
CUT = 0.2  # seconds that cameras have to end, and outlets that have to give up


@dataclass(frozen=True)
class Summary:
    """What became of a stream.

    Args:
        cameras, sinks: their counts, by name.
        errors: of cameras that ended otherwise than they should, by name.
        stopped: it was told to end or its reader has gone; it did not end by itself.
        latencies: of the last frames from capture to tags, seconds.
    """

    cameras: dict[str, FrameCounts]
    sinks: dict[str, DeliveryCounts]
    errors: dict[str, str]
    stopped: bool
    latencies: Sequence[float]

    @property
    def complete(self) -> bool:
        """Whether no frame failed, and every message was delivered."""
        failed = any(counts.failed for counts in self.cameras.values())
        return not failed and all(each.complete for each in self.sinks.values())


def run_stream(
    given: StreamSettings,
    control: Control,
    *,
    again: Callable[[], StreamSettings],
    note: Callable[[str], None],
    frames: int | None = None,
    extra_sinks: Sequence[Sink] = (),
) -> Summary:
    """Run a stream until it is told to stop, its sources have ended or `frames` were tagged.

    Args:
        again: gives the settings anew on reload; thresholds, smoothing, model, engine and precision
            are taken from them, the rest stays.
        note: told what a person should know.
        extra_sinks: receive messages beside the sinks of the settings.

    Raises:
        UserError: the settings do not fit what is there.
    """
    validate(given)
    arrived = threading.Condition()
    cameras = [Camera(each, given.stall_timeout, arrived) for each in given.cameras]
    couriers: list[SinkWorker] = []
    try:
        for each in given.sinks:
            couriers.append(SinkWorker(_outlet(each, given.cameras)))
        couriers += [SinkWorker(sink) for sink in extra_sinks]
        loop = Loop(
            _Opener(given, again, note),
            cameras,
            couriers,
            arrived,
            control,
            stall=given.stall_timeout,
            note=note,
            alive=systemd.heartbeat(),
        )
        try:
            for camera in cameras:
                camera.start()
            systemd.notify("READY=1")
            loop.run(float("inf") if frames is None else frames)
        finally:
            systemd.notify("STOPPING=1")
            for camera in cameras:
                camera.stop()
            stopped = time.monotonic()
            loop.close()
    except BaseException:
        control.stop_requested.set()  # a mistake is told at once
        raise
    finally:
        _deliver_the_rest(couriers, control.stop_requested)
    until = stopped + CUT
    for camera in cameras:  # one that hangs within a library ends with the process
        camera.join(max(0.0, until - time.monotonic()))
        camera.drop_waiting_frame()
    return Summary(
        {camera.name: camera.counts for camera in cameras},
        _by_name(couriers),
        {camera.name: camera.error for camera in cameras if camera.error},
        control.stop_requested.is_set() or any(courier.reader_gone for courier in couriers),
        loop.latencies,
    )


def _deliver_the_rest(couriers: Sequence[SinkWorker], stop: threading.Event) -> None:
    """Close the outlets, with time for what waits unless `stop` is set."""
    for courier in couriers:
        courier.finish()
    _wait(couriers, PATIENCE, stop)
    _wait(couriers, FAREWELL)
    for courier in couriers:
        courier.give_up()
    until = time.monotonic() + CUT
    for courier in couriers:
        courier.close(until)


def _by_name(couriers: Sequence[SinkWorker]) -> dict[str, DeliveryCounts]:
    """Return the counts of all outlets; of several with one name the second is `NAME (2)`."""
    found: dict[str, DeliveryCounts] = {}
    names: Counter[str] = Counter()
    for courier in couriers:
        name = courier.sink.name
        names[name] += 1
        found[name if names[name] == 1 else f"{name} ({names[name]})"] = courier.counts
    return found


def _wait(
    couriers: Sequence[SinkWorker], seconds: float, stop: threading.Event | None = None
) -> None:
    """Wait until all is delivered, or `stop` is set."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not all(courier.finished for courier in couriers):
        if stop is not None and stop.is_set():
            return
        time.sleep(LOOK)


def _outlet(given: SinkSettings, cameras: Sequence[CameraSettings]) -> Sink:
    match given:
        case JSONLSettings():
            return JSONLSink(given)
        case MQTTSettings():
            return MQTTSink(given, [camera.name for camera in cameras])
        case WebhookSettings():
            return WebhookSink(given)
        case SnapshotsSettings():
            return SnapshotsSink(given)
        case VideoSettings():
            return VideoSink(given, given.camera or cameras[0].name)


class _Opener:
    """Opens the model by the settings that hold at present, and on reload by new ones."""

    def __init__(
        self,
        given: StreamSettings,
        again: Callable[[], StreamSettings],
        note: Callable[[str], None],
    ) -> None:
        self._given, self._again, self._note = given, again, note
        self._running = _fixed(given)

    def __call__(self, present: Model | None) -> Model:
        """Open the bundle; read the settings anew where a present model is given.

        Its engine is kept where graph and choice are the same.
        """
        given, before = self._given, self._given
        if present is not None:
            given = self._again()
            validate(given)
        bundle = Bundle(given.model)
        calibrated = not given.uncalibrated
        chosen_alike = (given.engine, given.precision) == (before.engine, before.precision)
        if (
            present is not None
            and chosen_alike
            and _graphs(bundle) == _graphs(present.tagger.bundle)
        ):
            tagger = Tagger(bundle, present.tagger.engine, calibrated=calibrated)
        else:
            tagger = Tagger.open(
                given.model,
                engine=given.engine,
                precision=given.precision,
                latency=True,
                calibrated=calibrated,
            )
        self._given = given
        if _fixed(given) != self._running:
            self._note("cameras, sinks and stall_timeout stay as they are until a restart")
        return Model(tagger, rule_of(given, bundle.labels, tagger.thresholds))


def _fixed(given: StreamSettings) -> object:
    return given.cameras, given.sinks, given.stall_timeout


def _graphs(bundle: Bundle) -> object:
    files = {name: hash for name, hash in bundle.manifest.files.items() if name != CALIBRATION_NAME}
    return dataclasses.replace(bundle.manifest, files=files)


def rule_of(given: StreamSettings, labels: Sequence[str], calibrated: Floats) -> Hysteresis:
    """Return when labels turn on and off: as calibrated, and as `thresholds` say otherwise."""
    on = np.array(calibrated, np.float64)
    off = OFF_THRESHOLD_FACTOR * on
    for label, threshold in given.thresholds.items():
        m = list(labels).index(label)
        on[m] = threshold.on
        off[m] = OFF_THRESHOLD_FACTOR * threshold.on if threshold.off is None else threshold.off
    return Hysteresis(on, off, given.smoothing, given.min_duration)
