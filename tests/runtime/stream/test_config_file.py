"""The file of settings: read whole, or every fault at once."""

from __future__ import annotations

import pytest

from patchct_edge.errors import FaultsError, UserError
from patchct_edge.runtime.stream import settings
from patchct_edge.runtime.stream.check import check
from patchct_edge.runtime.stream.config_file import stream_from_file
from patchct_edge.runtime.stream.sources import size_of

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


def written(folder, text):
    path = folder / "cams.toml"
    path.write_text(text)
    return path


def test_a_whole_file_is_read(tmp_path):
    found = stream_from_file(written(tmp_path, WHOLE), {"DOOR_PASSWORD": "se cret"})
    assert found == settings.Stream(
        model=f"{tmp_path}/models/x.patchct", engine="fake", smooth=1.0, hold=0.25, stall=5.0,
        cameras=(
            settings.Camera(
                "rtsp://viewer:se cret@10.0.0.5/stream", "door", fps=5.0,
                roi=(0.25, 0.0, 0.5, 1.0), transport="udp",
            ),
            settings.Camera(f"{tmp_path}/film.mp4", "film", loop=True),
        ),
        outputs=(
            settings.MQTT("mqtt://broker/house"),
            settings.JSONL(path=f"{tmp_path}/events.jsonl", events_only=True),
            settings.Video("/srv/door.mp4", "door"),
        ),
        thresholds={"red": settings.Threshold(0.7), "blue": settings.Threshold(0.8, 0.5)},
    )  # fmt: skip


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
        "${DOOR_PASSWORD} is not set", "stal: there is no such setting", "camera 1 fps:",
        "camera 1 transport:", "camera 1 roi", "camera 2 lop: there is no such setting",
        "output 1 kind: got 'mqt', did you mean 'mqtt'?", "output 2 event_only:",
        "thresholds blue onn: there is no such setting",
    ):  # fmt: skip
        assert words in said
    assert f"({len(caught.value.faults)} faults)" in said


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
        check(given)
    said = str(caught.value)
    for words in (
        "a: fps: got 0", "smooth: got -1", "no such source: nowhere.mp4", "2 cameras named a",
        "not a size", "which camera? one of a, a, b", "webhook: got", "no label 'purple'",
        "red: got on 0.5, off 0.6",
        "a topic without + and #",
    ):  # fmt: skip
        assert words in said, said


def test_files_and_choices_are_checked_before_anything_is_opened(tiny_bundle, tmp_path):
    film = tmp_path / "film.mp4"
    film.touch()
    rows, nowhere = str(tmp_path / "rows.jsonl"), str(tmp_path / "none" / "rows.jsonl")
    given = settings.Stream(
        model=str(tiny_bundle), engine="fack", precision="int9",
        cameras=(settings.Camera(str(film), " "),),
        outputs=(
            settings.JSONL(path=rows), settings.JSONL(path=rows), settings.JSONL(path=nowhere),
            settings.Video(str(tmp_path / "none" / ".." / "film.mp4")),
        ),
    )  # fmt: skip
    with pytest.raises(FaultsError) as caught:
        check(given)
    said = str(caught.value)
    for words in (
        f"2 outputs write {rows}", f"no folder {tmp_path / 'none'}", "is a camera's source",
        "a camera needs a name", "did you mean 'fake'", "precision: got int9",
    ):  # fmt: skip
        assert words in said, said
    assert sorted(tmp_path.iterdir()) == [film]


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
        size_of(text)


def test_a_size_is_width_and_height():
    assert size_of("1280x720") == (1280, 720)
