"""The TOML file of a stream: it is read completely, or every fault is listed at once."""

from __future__ import annotations

import pytest

from patchct_edge.errors import FaultsError, UserError
from patchct_edge.runtime.stream.settings import (
    CameraSettings,
    JSONLSettings,
    MQTTSettings,
    StreamSettings,
    ThresholdSettings,
    VideoSettings,
)
from patchct_edge.runtime.stream.settings_file import read_settings_file

VALID = """
model = "models/x.patchct"
engine = "fake"
smoothing = 1
min_duration = 0.25
stall_timeout = 5

[[camera]]
name = "door"
source = "rtsp://viewer:${DOOR_PASSWORD}@10.0.0.5/stream"
max_fps = 5
roi = [0.25, 0, 0.5, 1]
transport = "udp"

[[camera]]
name = "film"
source = "film.mp4"
loop = true

[[sink]]
kind = "mqtt"
url = "mqtt://broker/house"

[[sink]]
kind = "jsonl"
path = "events.jsonl"
events_only = true

[[sink]]
kind = "video"
path = "/srv/door.mp4"
camera = "door"

[thresholds]
red = 0.7
blue = { on = 0.8, off = 0.5 }
"""


def write_toml(folder, text):
    path = folder / "cams.toml"
    path.write_text(text)
    return path


def test_a_valid_file_is_read(tmp_path):
    settings = read_settings_file(write_toml(tmp_path, VALID), {"DOOR_PASSWORD": "se cret"})
    assert settings == StreamSettings(
        model=f"{tmp_path}/models/x.patchct",
        engine="fake",
        smoothing=1.0,
        min_duration=0.25,
        stall_timeout=5.0,
        cameras=(
            CameraSettings(
                source="rtsp://viewer:se cret@10.0.0.5/stream",
                name="door",
                max_fps=5.0,
                roi=(0.25, 0.0, 0.5, 1.0),
                transport="udp",
            ),
            CameraSettings(source=f"{tmp_path}/film.mp4", name="film", loop=True),
        ),
        sinks=(
            MQTTSettings(url="mqtt://broker/house"),
            JSONLSettings(path=f"{tmp_path}/events.jsonl", events_only=True),
            VideoSettings(path="/srv/door.mp4", camera="door"),
        ),
        thresholds={
            "red": ThresholdSettings(on=0.7),
            "blue": ThresholdSettings(on=0.8, off=0.5),
        },
    )


def test_without_sinks_rows_go_to_stdout(tmp_path):
    text = 'model = "x"\n[[camera]]\nname = "a"\nsource = "test://pattern"\n'
    assert read_settings_file(write_toml(tmp_path, text)).sinks == (JSONLSettings(),)


def test_a_plural_table_name_is_corrected(tmp_path):
    text = VALID.replace("[[camera]]", "[[cameras]]").replace("[[sink]]", "[[sinks]]")
    with pytest.raises(FaultsError) as caught:
        read_settings_file(write_toml(tmp_path, text), {"DOOR_PASSWORD": "x"})
    for name in ("camera", "sink"):
        assert f"{name}s: unknown setting, did you mean [[{name}]]?" in str(caught.value)


def test_every_fault_is_listed_at_once(tmp_path):
    text = VALID.replace("stall_timeout = 5", "stall_time = 5").replace(
        "max_fps = 5", 'max_fps = "5"'
    )
    text = text.replace('transport = "udp"', 'transport = "smoke"').replace("loop", "lop")
    text = text.replace('kind = "mqtt"', 'kind = "mqt"').replace("events_only", "event_only")
    text = text.replace("on = 0.8", "onn = 0.8").replace("roi = [0.25, 0,", "roi = [0.25,")
    with pytest.raises(FaultsError) as caught:
        read_settings_file(write_toml(tmp_path, text), {})
    message = str(caught.value)
    for words in (
        "${DOOR_PASSWORD} is not set",
        "stall_time: unknown setting, did you mean 'stall_timeout'?",
        "camera 1 max_fps: got '5', expected a number",
        "camera 1 transport: got 'smoke', expected 'tcp' or 'udp'",
        "camera 1 roi",
        "camera 2 lop: unknown setting, did you mean 'loop'?",
        "sink 1 kind: got 'mqt', did you mean 'mqtt'?",
        "sink 2 event_only: unknown setting, did you mean 'events_only'?",
        "thresholds blue onn: unknown setting",
    ):
        assert words in message, message
    assert f"({len(caught.value.faults)} errors)" in message


def test_faults_of_form_and_of_meaning_are_listed_together(tiny_bundle, tmp_path):
    text = f"""
model = "{tiny_bundle}"
color = 3
stall_timeout = "long"
smoothing = -1

[[camera]]
name = "a"
max_fps = 0

[[camera]]
name = "b"
source = ["x"]
roi = [0, 0, "w", 1]
size = "big"

[[sink]]
kind = "mqtt"

[[sink]]
kind = "webhook"
url = "ftp://x"

[thresholds]
red = 1.5
green = {{ onn = 1 }}
blue = {{ on = 0.5, off = 0.6 }}
"""
    with pytest.raises(FaultsError) as caught:
        read_settings_file(write_toml(tmp_path, text), {})
    message = str(caught.value)
    for words in (
        "color: unknown setting",
        "stall_timeout: got 'long', expected a number",
        "smoothing: got -1, expected at least 0",
        "camera 1 source: missing",
        "camera 1 max_fps: got 0, expected more than 0",
        "camera 2 source: got ['x'], expected a string",
        "camera 2 roi",
        "sink 1 url: missing",
        "thresholds green onn",
        "thresholds red on: got 1.5, expected at most 1",
        "thresholds: blue: got on 0.5, off 0.6",
        "b: invalid frame size",
        "webhook: got ftp://x",
    ):
        assert words in message, message
    assert f"({len(caught.value.faults)} errors)" in message
    assert "no such source" not in message


def test_no_password_is_shown_in_a_fault(tmp_path):
    text = VALID.replace('url = "mqtt://broker/house"', 'url = ["mqtt://me:secret@broker"]')
    with pytest.raises(FaultsError) as caught:
        read_settings_file(write_toml(tmp_path, text), {"DOOR_PASSWORD": "secret"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["model = ", "\x00", "camera = 3", 'sink = "x"\nmodel = "x"'])
def test_a_file_that_is_not_valid_toml_or_settings_is_reported(tmp_path, text):
    with pytest.raises(UserError):
        read_settings_file(write_toml(tmp_path, text))


def test_check_on_the_command_line(run_cli, tiny_bundle, tmp_path):
    text = f'model = "{tiny_bundle}"\n[[camera]]\nname = "a"\nsource = "test://pattern"\n'
    result = run_cli("stream", "--config", write_toml(tmp_path, text), "--check", "-v")
    assert "settings are valid: 1 camera, 1 sink" in result.stderr
    faulty = write_toml(tmp_path, text + "color = 3\n")
    result = run_cli("stream", "--config", faulty, "--check", code=2)
    assert "camera 1 color: unknown setting" in result.stderr
    result = run_cli("stream", "--config", faulty, "--max-fps", 3, code=2)
    assert "these options cannot be combined with --config" in result.stderr
    assert "--max-fps" in result.stderr
