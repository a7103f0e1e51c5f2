"""Run a stream: assemble cameras, model and sinks from the settings, and take them apart."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from patchct_edge.runtime.stream import systemd
from patchct_edge.runtime.stream.loop import Control, Loop
from patchct_edge.runtime.stream.model_host import ModelHost
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
from patchct_edge.runtime.stream.sources.camera import Camera, FrameCounts
from patchct_edge.runtime.stream.validate import validate

DELIVERY_TIMEOUT_S = 10.0  # for messages that wait when the sources have ended
STOP_TIMEOUT_S = 0.4  # for messages that wait when somebody waits for the end
CLOSE_TIMEOUT_S = 0.2  # for cameras to end, and for sinks that were asked to give up
DELIVERY_CHECK_INTERVAL_S = 0.02


@dataclass(frozen=True)
class Summary:
    """How a stream ended.

    Attributes:
        cameras: counts of frames by the camera's name.
        sinks: counts of messages by the sink's name.
        errors: why a camera failed, by its name.
        stopped: the stream was asked to stop, or the reader of its output has gone.
        latencies: of the last frames from capture to tags, in seconds.
    """

    cameras: dict[str, FrameCounts]
    sinks: dict[str, DeliveryCounts]
    errors: dict[str, str]
    stopped: bool
    latencies: Sequence[float]

    @property
    def complete(self) -> bool:
        """Whether no frame failed and every message was delivered."""
        no_frame_failed = not any(counts.failed for counts in self.cameras.values())
        return no_frame_failed and all(counts.complete for counts in self.sinks.values())


def run_stream(
    settings: StreamSettings,
    control: Control | None = None,
    *,
    read_settings: Callable[[], StreamSettings] | None = None,
    extra_sinks: Sequence[Sink] = (),
    max_frames: float = math.inf,
) -> Summary:
    """Run a stream until it is asked to stop, its sources have ended or `max_frames` were tagged.

    Args:
        control: asks for a stop or a reload, from another thread or a signal handler.
        read_settings: returns the settings for a reload; the same ones by default. Thresholds,
            smoothing, minimum duration, model, engine and precision are taken from them; the rest
            changes only at a restart.
        extra_sinks: sinks of your own beside those of the settings.

    Raises:
        UserError: the settings are not valid, or a sink or the model cannot be opened.
    """
    control = control or Control()
    validate(settings)
    arrived = threading.Condition()
    cameras = [Camera(camera, settings.stall_timeout, arrived) for camera in settings.cameras]
    workers: list[SinkWorker] = []
    try:
        for sink_settings in settings.sinks:
            workers.append(SinkWorker(_make_sink(sink_settings, settings.cameras)))
        workers += [SinkWorker(sink) for sink in extra_sinks]
        loop = Loop(
            ModelHost(settings, read_settings or (lambda: settings)),
            cameras,
            workers,
            arrived,
            control,
            stall_timeout=settings.stall_timeout,
            heartbeat=systemd.make_heartbeat(),
        )
        try:
            for camera in cameras:
                camera.start()
            systemd.notify("READY=1")
            loop.run(max_frames)
        finally:
            systemd.notify("STOPPING=1")
            for camera in cameras:
                camera.stop()
            stopped_at = time.monotonic()
            loop.close()
    except BaseException:
        control.stop_requested.set()  # so that the error is not delayed by slow sinks
        raise
    finally:
        _finish_sinks(workers, control.stop_requested)
    for camera in cameras:  # one that hangs within a library ends with the process
        camera.join(max(0.0, stopped_at + CLOSE_TIMEOUT_S - time.monotonic()))
        camera.drop_waiting_frame()
    return Summary(
        {camera.name: camera.counts for camera in cameras},
        _counts_by_name(workers),
        {camera.name: camera.error for camera in cameras if camera.error},
        control.stop_requested.is_set() or any(worker.reader_gone for worker in workers),
        loop.latencies,
    )


def _make_sink(settings: SinkSettings, cameras: Sequence[CameraSettings]) -> Sink:
    match settings:
        case JSONLSettings():
            return JSONLSink(settings)
        case MQTTSettings():
            return MQTTSink(settings, [camera.name for camera in cameras])
        case WebhookSettings():
            return WebhookSink(settings)
        case SnapshotsSettings():
            return SnapshotsSink(settings)
        case VideoSettings():
            return VideoSink(settings, settings.camera or cameras[0].name)


def _finish_sinks(workers: Sequence[SinkWorker], stop: threading.Event) -> None:
    """Close the sinks, after a longer time for waiting messages unless `stop` is set."""
    for worker in workers:
        worker.finish()
    _wait_until_finished(workers, DELIVERY_TIMEOUT_S, stop)
    _wait_until_finished(workers, STOP_TIMEOUT_S)
    for worker in workers:
        worker.give_up()
    deadline = time.monotonic() + CLOSE_TIMEOUT_S
    for worker in workers:
        worker.close(deadline)


def _wait_until_finished(
    workers: Sequence[SinkWorker], timeout: float, stop: threading.Event | None = None
) -> None:
    """Wait until all messages are delivered, `timeout` seconds have passed or `stop` is set."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and not all(worker.finished for worker in workers):
        if stop is not None and stop.is_set():
            return
        time.sleep(DELIVERY_CHECK_INTERVAL_S)


def _counts_by_name(workers: Sequence[SinkWorker]) -> dict[str, DeliveryCounts]:
    """Return the counts of all sinks; the second of several with one name is `NAME (2)`."""
    counts: dict[str, DeliveryCounts] = {}
    occurrences: Counter[str] = Counter()
    for worker in workers:
        name = worker.sink.name
        occurrences[name] += 1
        unique_name = name if occurrences[name] == 1 else f"{name} ({occurrences[name]})"
        counts[unique_name] = worker.counts
    return counts
