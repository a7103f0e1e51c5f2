"""patchct stream: tag cameras and videos around the clock."""

from __future__ import annotations

import inspect
import logging
import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from patchct_edge.cli import options
from patchct_edge.errors import ExitCode, UserError
from patchct_edge.runtime.stream import defaults

if TYPE_CHECKING:
    from patchct_edge.runtime.stream.loop import Control
    from patchct_edge.runtime.stream.run import Summary
    from patchct_edge.runtime.stream.settings import Roi, StreamSettings

logger = logging.getLogger(__name__)

ALLOWED_WITH_CONFIG = ("config", "check", "frames")


def stream(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="0, v4l2:///dev/video0, csi://0, rtsp://..., http://..., gst:PIPELINE, a video "
            "file, a folder of images or test://pattern.",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Bundle to run; no default, required unless --config is given.",
            metavar="X.patchct",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of cameras, sinks and thresholds, in place of SOURCE and the other "
            "options; none by default.",
            metavar="FILE",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check the settings and exit without opening a camera.")
    ] = False,
    frames: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after this many tagged frames; no limit by default."),
    ] = None,
    max_fps: Annotated[
        float | None, typer.Option(help="Tag at most this many frames per second; all by default.")
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option(
            help="Region of the frame to tag, in fractions or pixels; all of it by default.",
            metavar="X,Y,W,H",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Frame size to request from the camera, such as 1280x720; the camera's own by "
            "default.",
            metavar="WxH",
        ),
    ] = None,
    capture_fps: Annotated[
        float | None,
        typer.Option(
            help="Frames per second to request from the camera, its own by default; or images "
            "per second to read from a folder, 1 by default."
        ),
    ] = None,
    pixel_format: Annotated[
        str | None,
        typer.Option(
            help="Format to request from a V4L2 camera, such as mjpeg; the camera's own by default."
        ),
    ] = None,
    udp: Annotated[
        bool, typer.Option("--udp", help="Receive RTSP over UDP; over TCP by default.")
    ] = False,
    loop: Annotated[
        bool, typer.Option("--loop", help="Restart a file or folder when it ends.")
    ] = False,
    realtime: Annotated[
        bool,
        typer.Option(
            "--realtime", help="Play a file at its own speed and drop frames as a camera does."
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File for rows and events; stdout by default."),
    ] = None,
    events_only: Annotated[
        bool, typer.Option("--events-only", help="Write events only, no rows for frames.")
    ] = False,
    mqtt: Annotated[
        str | None,
        typer.Option(
            help="MQTT broker for tags and events; none by default.", metavar="mqtt://HOST/TOPIC"
        ),
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(help="URL to post events to as JSON; none by default.", metavar="URL"),
    ] = None,
    snapshots: Annotated[
        Path | None,
        typer.Option(help="Folder for a JPEG of each label that turns on; none by default."),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(
            help="Video file to write with the tags drawn on it, .mp4 or .mkv; none by default."
        ),
    ] = None,
    smoothing: Annotated[
        float, typer.Option(help="Time constant of the smoothing of scores, in seconds.")
    ] = defaults.SMOOTHING_S,
    min_duration: Annotated[
        float,
        typer.Option(
            help="Seconds for which a score must stay beyond its threshold before the label "
            "changes."
        ),
    ] = defaults.MIN_DURATION_S,
    stall_timeout: Annotated[
        float,
        typer.Option(help="Seconds without a new frame after which the camera is reopened."),
    ] = defaults.STALL_TIMEOUT_S,
    engine: options.Engine = None,
    precision: options.Precision = None,
    uncalibrated: options.Uncalibrated = False,
) -> ExitCode:
    """Tag a camera, a stream or a video: a row for each frame, and an event when a label turns on
    or off."""
    read_settings: Callable[[], StreamSettings]  # called again on SIGHUP
    if config is not None:
        from patchct_edge.runtime.stream.settings_file import read_settings_file

        _refuse_other_options(context)
        read_settings = partial(read_settings_file, config)
    else:
        if source is None or model is None:
            raise UserError("stream needs SOURCE and --model, or --config")
        from patchct_edge.runtime.stream.validate import build_settings

        camera = {
            "source": source,
            "max_fps": max_fps,
            "roi": None if roi is None else _parse_roi(roi),
            "size": size,
            "capture_fps": capture_fps,
            "pixel_format": pixel_format,
            "transport": "udp" if udp else "tcp",
            "loop": loop,
            "realtime": realtime,
        }
        values = {
            "model": str(model),
            "cameras": [camera],
            "sinks": [
                {
                    "kind": "jsonl",
                    "path": None if output is None else str(output),
                    "events_only": events_only,
                },
                *_list_other_sinks(mqtt, webhook, snapshots, video),
            ],
            "engine": engine,
            "precision": precision,
            "uncalibrated": uncalibrated,
            "smoothing": smoothing,
            "min_duration": min_duration,
            "stall_timeout": stall_timeout,
        }
        settings = build_settings(values, _describe_option)
        read_settings = lambda: settings  # noqa: E731
    if check:
        _check(read_settings())
        return ExitCode.OK
    return _run(read_settings, frames)


def _check(settings: StreamSettings) -> None:
    """Report that the settings are valid, or raise their faults."""
    from patchct_edge.runtime.stream.validate import validate

    validate(settings)
    counts = (("camera", len(settings.cameras)), ("sink", len(settings.sinks)))
    parts = [f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counts]
    logger.info(f"settings are valid: {', '.join(parts)}")


def _list_other_sinks(
    mqtt: str | None, webhook: str | None, snapshots: Path | None, video: Path | None
) -> list[dict[str, str]]:
    """Return the settings of the sinks that were asked for beside the rows."""
    targets = (
        ("mqtt", "url", mqtt),
        ("webhook", "url", webhook),
        ("snapshots", "folder", snapshots),
        ("video", "path", video),
    )
    return [
        {"kind": kind, field: str(target)} for kind, field, target in targets if target is not None
    ]


def _describe_option(location: Sequence[int | str]) -> str:
    """Return the option that a setting comes from: each has the name of its field."""
    return "--" + str(location[-1]).replace("_", "-")


def _run(read_settings: Callable[[], StreamSettings], max_frames: int | None) -> ExitCode:
    """Run until the sources end, enough frames are tagged or a signal asks for the end."""
    from patchct_edge.runtime.stream.loop import Control
    from patchct_edge.runtime.stream.run import run_stream

    control = Control()
    with _handle_signals(control) as interrupts:
        summary = run_stream(
            read_settings(),
            control,
            read_settings=read_settings,
            max_frames=math.inf if max_frames is None else max_frames,
        )
    _print_summary(summary)
    if interrupts:
        return ExitCode.INTERRUPTED
    complete = summary.complete or summary.stopped
    return ExitCode.SOME_INPUTS_FAILED if summary.errors or not complete else ExitCode.OK


@contextmanager
def _handle_signals(control: Control) -> Iterator[list[int]]:
    """Stop on SIGTERM and SIGINT, reload on SIGHUP; yield a list that SIGINT is appended to.

    SIGHUP also comes when the terminal is closed: then there is nobody to reload for.
    """
    interrupts: list[int] = []
    started_in_terminal = os.isatty(0)

    def stop(number: int, _: Any) -> None:
        if number == signal.SIGINT:
            interrupts.append(number)
        control.stop_requested.set()

    def hang_up(*_: Any) -> None:
        terminal_closed = started_in_terminal and not os.isatty(0)
        (control.stop_requested if terminal_closed else control.reload_requested).set()

    handlers: dict[int, Callable[..., None]] = {signal.SIGTERM: stop, signal.SIGINT: stop}
    if hasattr(signal, "SIGHUP"):  # not on Windows
        handlers[signal.SIGHUP] = hang_up
    earlier = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield interrupts
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _print_summary(summary: Summary) -> None:
    """Print what became of frames and messages."""
    import numpy as np

    for name, counts in summary.cameras.items():
        logger.info(f"frames of {name}: {_format_counts(counts.to_json()) or 'none'}")
    if len(summary.latencies):
        p50, p99 = 1000 * np.percentile(summary.latencies, (50, 99))
        logger.info(f"latency from capture to tags: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    for name, delivered in summary.sinks.items():
        logger.info(f"messages to {name}: {_format_counts(delivered.to_json()) or 'none'}")
    for name, error in summary.errors.items():
        logger.warning(f"{name}: {error}")


def _format_counts(counts: dict[str, int]) -> str:
    if counts.get("connects") == 1:  # only reconnects are news
        counts = {name: count for name, count in counts.items() if name != "connects"}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


OPTIONS = frozenset(inspect.signature(stream).parameters)  # without those of every command


def _refuse_other_options(context: typer.Context) -> None:
    """Refuse options beside --config that belong in its file."""
    names = [
        name
        for name in context.params
        if name in OPTIONS
        and name not in ALLOWED_WITH_CONFIG
        and context.get_parameter_source(name).name == "COMMANDLINE"  # type: ignore[union-attr]
    ]
    if names:
        refused = ("SOURCE" if name == "source" else _describe_option([name]) for name in names)
        raise UserError(
            "these options cannot be combined with --config",
            got=", ".join(refused),
            fix="set them in the --config file",
        )


def _parse_roi(text: str) -> Roi:
    try:
        x, y, width, height = map(float, text.split(","))
    except ValueError:
        raise UserError(
            "not a region of interest", got=text, expected="x,y,width,height, such as 0.25,0,0.5,1"
        ) from None
    return x, y, width, height
