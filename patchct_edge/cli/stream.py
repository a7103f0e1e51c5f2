"""patchct stream: the tags of cameras and videos, as they come."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from patchct_edge.cli import options
from patchct_edge.errors import ExitCode, UserError

if TYPE_CHECKING:
    from patchct_edge.runtime.stream import settings
    from patchct_edge.runtime.stream.run import Summary

logger = logging.getLogger(__name__)

BESIDE_CONFIG = ("config", "check", "frames")  # options that go with a file of settings


def stream(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(
            help="0, v4l2:///dev/video0, csi://0, rtsp://..., http://..., gst:PIPELINE, a video "
            "file, a folder of images or test://pattern.",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="The bundle; no default without --config.", metavar="X.patchct"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of cameras, outputs and thresholds, in place of SOURCE and the "
            "options; none by default.",
            metavar="FILE",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Look at the settings, open no camera, and end.")
    ] = False,
    frames: Annotated[
        int | None, typer.Option(min=1, help="End after so many tagged frames; never by default.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Tag at most so many frames a second; all by default.")
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option(
            help="Part of the frame to look at, in fractions or pixels; all by default.",
            metavar="X,Y,W,H",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Asked of the camera, such as 1280x720; its own by default.", metavar="WxH"
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Frames a second, asked of the camera; of a folder, 1 by default."),
    ] = None,
    pixel_format: Annotated[
        str | None,
        typer.Option(help="Asked of a V4L2 camera, such as mjpeg; its own by default."),
    ] = None,
    udp: Annotated[bool, typer.Option("--udp", help="RTSP over UDP; over TCP by default.")] = False,
    loop: Annotated[
        bool, typer.Option("--loop", help="A file or folder begins again at its end.")
    ] = False,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Play a file at its own speed, dropping frames.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File of rows and events; stdout by default."),
    ] = None,
    events_only: Annotated[
        bool, typer.Option("--events-only", help="No rows of frames, only what changed.")
    ] = False,
    mqtt: Annotated[
        str | None,
        typer.Option(
            help="Broker for tags and events; none by default.", metavar="mqtt://HOST/TOPIC"
        ),
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(help="Where events are posted as JSON; none by default.", metavar="URL"),
    ] = None,
    snapshots: Annotated[
        Path | None,
        typer.Option(help="Folder for a JPEG of every label that turns on; none by default."),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(help="Video file with the tags drawn in, .mp4 or .mkv; none by default."),
    ] = None,
    smooth: Annotated[
        float, typer.Option(help="Time constant of the smoothing of scores, seconds.")
    ] = 0.5,
    hold: Annotated[
        float, typer.Option(help="Seconds for which scores must ask for a change.")
    ] = 0.5,
    stall: Annotated[
        float, typer.Option(help="Seconds without a new picture until a camera is reopened.")
    ] = 10.0,
    engine: options.Engine = None,
    precision: options.Precision = None,
    uncalibrated: options.Uncalibrated = False,
) -> ExitCode:
    """Tag a camera, a stream or a video: a row a frame, and an event where a label turns on or
    off."""
    from patchct_edge.runtime.stream import settings
    from patchct_edge.runtime.stream.validate import validate as checked

    read: Callable[[], settings.Stream]  # again on SIGHUP
    if config is not None:
        from patchct_edge.runtime.stream.settings_file import stream_from_file

        _refuse_others(context)
        read = partial(stream_from_file, config)
    else:
        if source is None or model is None:
            raise UserError(
                "what to look at, and with what?", expected="SOURCE and --model, or --config"
            )
        camera = settings.Camera(
            source,
            fps=fps,
            roi=None if roi is None else _roi(roi),
            size=size,
            rate=rate,
            pixel_format=pixel_format,
            transport="udp" if udp else "tcp",
            loop=loop,
            realtime=realtime,
        )
        rows = settings.JSONL(None if output is None else str(output), events_only)
        given = settings.Stream(
            str(model),
            (camera,),
            (rows, *_outputs(mqtt, webhook, snapshots, video)),
            engine,
            precision,
            uncalibrated,
            smooth,
            hold,
            stall,
        )
        read = lambda: given  # noqa: E731
    if check:
        found = read()
        checked(found)
        logger.info(f"nothing wrong: {len(found.cameras)} cameras, {len(found.outputs)} outputs")
        return ExitCode.OK
    return _run(read, frames)


def _outputs(
    mqtt: str | None, webhook: str | None, snapshots: Path | None, video: Path | None
) -> list[settings.Output]:
    """Return the outputs that were asked for."""
    from patchct_edge.runtime.stream import settings

    found: list[settings.Output] = []
    found += [settings.MQTT(mqtt)] if mqtt is not None else []
    found += [settings.Webhook(webhook)] if webhook is not None else []
    found += [settings.Snapshots(str(snapshots))] if snapshots is not None else []
    found += [settings.Video(str(video))] if video is not None else []
    return found


def _run(read: Callable[[], settings.Stream], frames: int | None) -> ExitCode:
    """Run until the sources end or a signal says so."""
    from patchct_edge.runtime.stream.loop import Control
    from patchct_edge.runtime.stream.run import run_stream

    orders, interrupted = Control(), []

    def interrupt(*_: Any) -> None:
        interrupted.append(True)
        orders.stop.set()

    in_terminal = os.isatty(0)

    def hang_up(*_: Any) -> None:
        closed = in_terminal and not os.isatty(0)
        (orders.stop if closed else orders.reload).set()

    handlers = {
        signal.SIGTERM: lambda *_: orders.stop.set(),
        signal.SIGINT: interrupt,
        signal.SIGHUP: hang_up,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        summary = run_stream(read(), orders, again=read, note=logger.info, frames=frames)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    _tell(summary)
    if interrupted:
        return ExitCode.INTERRUPTED
    whole = summary.complete or summary.stopped
    return ExitCode.SOME_INPUTS_FAILED if summary.errors or not whole else ExitCode.OK


def _tell(summary: Summary) -> None:
    """Say what became of frames and messages."""
    import numpy as np

    for name, counts in summary.cameras.items():
        found = [f"{count} {what}" for what, count in counts.to_json().items() if count]
        logger.info(f"{name}: {', '.join(found) or 'no frame'}")
    if len(summary.latencies):
        p50, p99 = 1000 * np.percentile(summary.latencies, (50, 99))
        logger.info(f"capture to tags: {p50:.1f} ms (p50), {p99:.1f} ms (p99)")
    for name, delivered in summary.outlets.items():
        found = [f"{count} {what}" for what, count in delivered.to_json().items() if count]
        logger.info(f"{name}: {', '.join(found) or 'nothing'}")
    for name, error in summary.errors.items():
        logger.info(f"warning: {name}: {error}")


def _refuse_others(context: typer.Context) -> None:
    """Refuse options that a file of settings stands for."""
    given = [
        name
        for name in context.params
        if name not in BESIDE_CONFIG and context.get_parameter_source(name).name == "COMMANDLINE"  # type: ignore[union-attr]
    ]
    if given:
        raise UserError(
            "--config stands for all other options",
            got=", ".join(given),
            fix="put it into the file",
        )


def _roi(text: str) -> settings.Roi:
    try:
        x, y, width, height = map(float, text.split(","))
    except ValueError:
        raise UserError(
            "no region of interest", got=text, expected="x,y,width,height, such as 0.25,0,0.5,1"
        ) from None
    return x, y, width, height
