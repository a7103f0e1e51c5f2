"""The file of settings: read whole, or every fault at once."""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchct_edge.errors import FaultsError, UserError
from patchct_edge.runtime.stream import settings
from patchct_edge.runtime.stream.settings_file import _validated as validated
from patchct_edge.runtime.stream.settings_file import stream_from_file
from patchct_edge.runtime.stream.sources.open import parse_size
from patchct_edge.runtime.stream.validate import validate

WHOLE = """
model = "models/x.patchct"
engine = "fake"
smooth = 1
hold = 0.25
stall = 5

[[camera]]
name = "door"
source = "rtsp://viewer:${DOOR_PASSWORD}@10.0.0.5/stream"
fps = 5
roi = [0.25, 0, 0.5, 1]
transport = "udp"

[[camera]]
name = "film"
source = "film.mp4"
loop = true

[[output]]
kind = "mqtt"
url = "mqtt://broker/house"

[[output]]
kind = "jsonl"
path = "events.jsonl"
events_only = true

[[output]]
kind = "video"
path = "/srv/door.mp4"
camera = "door"

[thresholds]
red = 0.7
blue = { on = 0.8, off = 0.5 }
"""


NAMES = (
    "model",
    "cameras",
    "outputs",
    "thresholds",
    "smooth",
    "stall",
    "name",
    "source",
    "fps",
    "roi",
    "kind",
    "url",
    "path",
    "on",
    "off",
)


def written(folder, text):
    path = folder / "cams.toml"
    path.write_text(text)
    return path


def test_a_whole_file_is_read(tmp_path):
    found = stream_from_file(written(tmp_path, WHOLE), {"DOOR_PASSWORD": "se cret"})
    assert found == settings.Stream(
        model=f"{tmp_path}/models/x.patchct",
        engine="fake",
        smooth=1.0,
        hold=0.25,
        stall=5.0,
        cameras=(
            settings.Camera(
                "rtsp://viewer:se cret@10.0.0.5/stream",
                "door",
                fps=5.0,
                roi=(0.25, 0.0, 0.5, 1.0),
                transport="udp",
            ),
            settings.Camera(f"{tmp_path}/film.mp4", "film", loop=True),
        ),
        outputs=(
            settings.MQTT("mqtt://broker/house"),
            settings.JSONL(path=f"{tmp_path}/events.jsonl", events_only=True),
            settings.Video("/srv/door.mp4", "door"),
        ),
        thresholds={"red": settings.Threshold(0.7), "blue": settings.Threshold(0.8, 0.5)},
    )


def test_without_outputs_rows_go_to_stdout(tmp_path):
    text = 'model = "x"\n[[camera]]\nname = "a"\nsource = "test://pattern"\n'
    assert stream_from_file(written(tmp_path, text)).outputs == (settings.JSONL(),)


def test_a_plural_is_another_name(tmp_path):
    text = WHOLE.replace("[[camera]]", "[[cameras]]").replace("[[output]]", "[[outputs]]")
    with pytest.raises(FaultsError) as caught:
        stream_from_file(written(tmp_path, text), {"DOOR_PASSWORD": "x"})
    for name in ("camera", "output"):
        assert f"{name}s: there is no such setting, it is [[{name}]]" in str(caught.value)


def test_every_fault_is_listed_at_once(tmp_path):
    text = WHOLE.replace("stall = 5", "stal = 5").replace("fps = 5", 'fps = "5"')
    text = text.replace('transport = "udp"', 'transport = "smoke"').replace("loop", "lop")
    text = text.replace('kind = "mqtt"', 'kind = "mqt"').replace("events_only", "event_only")
    text = text.replace("on = 0.8", "onn = 0.8").replace("roi = [0.25, 0,", "roi = [0.25,")
    with pytest.raises(FaultsError) as caught:
        stream_from_file(written(tmp_path, text), {})
    said = str(caught.value)
    for words in (
        "${DOOR_PASSWORD} is not set",
        "stal: there is no such setting",
        "camera 1 fps:",
        "camera 1 transport:",
        "camera 1 roi",
        "camera 2 lop: there is no such setting",
        "output 1 kind: got 'mqt', did you mean 'mqtt'?",
        "output 2 event_only:",
        "thresholds blue onn: there is no such setting",
    ):
        assert words in said
    assert f"({len(caught.value.faults)} faults)" in said


def test_faults_of_form_and_of_meaning_are_listed_together(tiny_bundle, tmp_path):
    text = f"""
model = "{tiny_bundle}"
colour = 3
stall = "long"
smooth = -1

[[camera]]
name = "a"
fps = 0

[[camera]]
name = "b"
source = ["x"]
roi = [0, 0, "w", 1]
size = "big"

[[output]]
kind = "mqtt"

[[output]]
kind = "webhook"
url = "ftp://x"

[thresholds]
red = 1.5
green = {{ onn = 1 }}
"""
    with pytest.raises(FaultsError) as caught:
        stream_from_file(written(tmp_path, text), {})
    said = str(caught.value)
    for words in (
        "colour: there is no such setting",
        "stall: ",
        "camera 1 source: is missing",
        "camera 2 source",
        "camera 2 roi",
        "output 1 url: is missing",
        "thresholds green onn",
        "smooth: got -1",
        "a: fps: got 0",
        "b: not a size",
        "webhook: got ftp://x",
        "thresholds: red: got on 1.5",
    ):
        assert words in said, said
    assert f"({len(caught.value.faults)} faults)" in said
    assert "no such source" not in said


SCALARS = st.none() | st.booleans() | st.floats(-1, 3) | st.text("ab/", max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=8,
)
PLACES = [
    ("model",),
    ("colour",),
    ("smooth",),
    ("cameras",),
    ("cameras", 0),
    ("cameras", 0, "source"),
    ("cameras", 0, "fps"),
    ("cameras", 1, "roi"),
    ("cameras", 1, "roi", 2),
    ("outputs",),
    ("outputs", 0),
    ("outputs", 0, "url"),
    ("thresholds",),
    ("thresholds", "red"),
]


@given(st.dictionaries(st.sampled_from(PLACES), VALUES, max_size=4))
def test_whatever_stands_in_a_file_is_taken_or_refused(changes):
    values = {
        "model": "x.patchct",
        "cameras": [{"source": "0"}, {"source": "1", "name": "b", "roi": [0, 0, 1, 1]}],
        "outputs": [{"kind": "mqtt", "url": "mqtt://broker/house"}, {"kind": "jsonl"}],
        "thresholds": {"red": 0.5},
    }
    for place, value in sorted(changes.items(), key=lambda change: -len(change[0])):
        target = values
        for part in place[:-1]:
            target = target[part]
        target[place[-1]] = value
    faults = []
    stream = validated(values, faults)
    assert stream is not None or faults
    if stream is not None:
        assert len(stream.cameras) == len(values["cameras"])


def test_no_password_is_shown_in_a_fault(tmp_path):
    text = WHOLE.replace('url = "mqtt://broker/house"', 'url = ["mqtt://me:secret@broker"]')
    with pytest.raises(FaultsError) as caught:
        stream_from_file(written(tmp_path, text), {"DOOR_PASSWORD": "secret"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["model = ", "\x00", "camera = 3", 'output = "x"\nmodel = "x"'])
def test_what_is_no_such_file_is_told(tmp_path, text):
    with pytest.raises(UserError):
        stream_from_file(written(tmp_path, text))


def test_the_meaning_is_checked_all_at_once(tiny_bundle):
    given = settings.Stream(
        model=str(tiny_bundle),
        cameras=(
            settings.Camera("test://pattern", "a", fps=0.0),
            settings.Camera("nowhere.mp4", "a"),
            settings.Camera("test://pattern?size=big", "b", roi=(0.5, 0.0, 0.6, 1.0)),
        ),
        outputs=(
            settings.Video("out.mp4"),
            settings.Webhook("http:///x"),
            settings.MQTT("mqtt://broker/house/+"),
            settings.MQTT("mqtt:/me:correct horse@broker"),
        ),
        smooth=-1.0,
        thresholds={"purple": settings.Threshold(0.5), "red": settings.Threshold(0.5, 0.6)},
    )
    with pytest.raises(FaultsError) as caught:
        validate(given)
    said = str(caught.value)
    for words in (
        "a: fps: got 0",
        "smooth: got -1",
        "no such source: nowhere.mp4",
        "2 cameras named a",
        "not a size",
        "which camera? one of a, a, b",
        "webhook: got",
        "no label 'purple'",
        "red: got on 0.5, off 0.6",
        "a topic without + and #",
    ):
        assert words in said, said


def test_files_and_choices_are_checked_before_anything_is_opened(tiny_bundle, tmp_path):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"film")
    rows, nowhere = str(tmp_path / "rows.jsonl"), str(tmp_path / "none" / "rows.jsonl")
    given = settings.Stream(
        model=str(tiny_bundle),
        engine="fack",
        precision="int9",
        cameras=(settings.Camera(str(film), " "),),
        outputs=(
            settings.JSONL(path=rows),
            settings.JSONL(path=rows),
            settings.JSONL(path=nowhere),
            settings.JSONL(path=str(film)),
            settings.JSONL(path=f"{tiny_bundle}/manifest.json"),
            settings.Webhook("htps://hooks/T00/SECRET"),
            settings.MQTT("mqtt://a..b/house"),
            settings.Video(str(tmp_path / "none" / ".." / "film.mp4")),
        ),
    )
    with pytest.raises(FaultsError) as caught:
        validate(given)
    said = str(caught.value)
    for words in (
        f"2 outputs write {rows}",
        f"no folder {tmp_path / 'none'}",
        "is a camera's source",
        "a camera needs a name",
        "did you mean 'fake'",
        "precision: got int9",
        "film.mp4 is there and holds no JSON lines",
        "manifest.json is within the model",
        "got htps://hooks/...",
        "got mqtt://a..b/house",
    ):
        assert words in said, said
    assert "SECRET" not in said
    assert sorted(tmp_path.iterdir()) == [film]


def test_a_pipe_and_another_models_files_as_outputs(tiny_bundle, tmp_path):
    other = shutil.copytree(tiny_bundle, tmp_path / "other.patchct")
    os.mkfifo(tmp_path / "fifo")
    given = settings.Stream(
        model=str(tiny_bundle),
        cameras=(settings.Camera("test://pattern"),),
        outputs=tuple(
            settings.JSONL(path=str(path)) for path in (tmp_path / "fifo", other / "manifest.json")
        ),
    )
    with pytest.raises(UserError, match=r"manifest.json is within the model .*other") as found:
        validate(given)
    assert "fifo" not in str(found.value)


def test_check_on_the_command_line(run_cli, tiny_bundle, tmp_path):
    text = f'model = "{tiny_bundle}"\n[[camera]]\nname = "a"\nsource = "test://pattern"\n'
    found = run_cli("stream", "--config", written(tmp_path, text), "--check")
    assert "nothing wrong: 1 cameras" in found.stderr
    bad = written(tmp_path, text + "colour = 3\n")
    found = run_cli("stream", "--config", bad, "--check", code=2)
    assert "camera 1 colour: there is no such setting" in found.stderr
    found = run_cli("stream", "--config", bad, "--fps", 3, code=2)
    assert "--config stands for all other options" in found.stderr


@pytest.mark.parametrize("text", ["0x480", "640x0", "640", "640 x 480", "-640x480", "99999x99999"])
def test_what_is_no_size_of_a_camera_is_told(text):
    with pytest.raises(UserError, match="not a size"):
        parse_size(text)


def test_a_size_is_width_and_height():
    assert parse_size("1280x720") == (1280, 720)
