"""The default settings of a stream, each defined once.

They stand apart from the models in `settings.py` because the command line shows them in `--help`,
which must not wait for pydantic.
"""

from __future__ import annotations

from typing import Final

CAMERA_NAME = "camera"
RTSP_TRANSPORT: Final = "tcp"
SMOOTHING_S = 0.5
MIN_DURATION_S = 0.5
STALL_TIMEOUT_S = 10.0
OFF_THRESHOLD_FACTOR = 0.8  # of the threshold at which a label turns on
JSONL_MAX_MB = 100.0
JSONL_KEEP_FILES = 5
SNAPSHOTS_KEEP_FILES = 1000
VIDEO_FPS = 10.0
