"""Tagger: the same tags from a file, its bytes and its pixels, on every engine."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from patchct_edge import Tagger, images
from patchct_edge.bundle import Bundle, Tag
from patchct_edge.errors import BundleError, ImageError

COLOR = (250, 130, 20)


def expected_scores(color):
    return 1 / (1 + np.exp(4 - 8 * np.array(color) / 255))


@pytest.fixture
def photo(color_photo):
    return color_photo("photo.png", COLOR)


@pytest.fixture
def tagger(tiny_bundle):
    with Tagger.open(tiny_bundle, engine="fake") as tagger:
        yield tagger


def labels_of(tags):
    return [tag.label for tag in tags]


def test_a_file_its_bytes_and_its_pixels_have_the_same_tags(tiny_bundle, photo):
    pytest.importorskip("openvino")
    with Tagger.open(str(tiny_bundle)) as tagger:
        tags = tagger.tag(photo)
        assert labels_of(tags) == ["red", "green"]
        assert tagger.tag(str(photo)) == tags
        assert tagger.tag(photo.read_bytes()) == tags
        assert tagger.tag(images.decode(photo)) == tags
        assert [row.tags for row in tagger.tag_files([photo, photo])] == [tags, tags]


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "fake"])
@pytest.mark.parametrize("latency", [False, True])
def test_every_engine_agrees_with_numpy(tiny_bundle, photo, engine, latency):
    if engine != "fake":
        pytest.importorskip(engine)
    with Tagger.open(tiny_bundle, engine=engine, latency=latency) as tagger:
        assert tagger.engine.record.engine == engine
        tags = tagger.tag(photo, all_scores=True)
    assert labels_of(tags) == ["red", "green", "blue"]
    np.testing.assert_allclose([tag.score for tag in tags], expected_scores(COLOR), rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "red green"),
        ({"threshold": 0.9}, "red"),
        ({"threshold": 0.0}, "red green blue"),
        ({"threshold": 1.0}, ""),
        ({"top_k": 1}, "red"),
        ({"top_k": 9}, "red green"),
        ({"all_scores": True}, "red green blue"),
        ({"all_scores": True, "threshold": 0.9, "top_k": 2}, "red green"),
    ],
    ids=str,
)
def test_options_choose_the_tags(tagger, photo, options, expected):
    tags = tagger.tag(photo, **options)
    assert labels_of(tags) == expected.split()
    assert all(isinstance(tag, Tag) for tag in tags)
    (row,) = tagger.tag_files([photo], **options)
    assert row.tags == tags


def test_the_calibration_of_the_running_precision_applies(write_bundle, tmp_path, photo):
    bundle = write_bundle(
        tmp_path / "x.patchct",
        calibration={
            "fp32": {"temperature": 2.0, "thresholds": {"red": 0.95, "green": 0.4, "blue": 0.1}},
            "int8": {"temperature": 9.0, "thresholds": {"red": 0.0, "green": 1.0, "blue": 1.0}},
        },
    )
    with Tagger.open(bundle, engine="fake") as tagger:
        tags = tagger.tag(photo)
        assert labels_of(tagger.tag(photo, threshold=0.8)) == ["red"]
    logits = 8 * np.array(COLOR) / 255 - 4
    assert labels_of(tags) == ["green", "blue"]
    np.testing.assert_allclose(
        [t.score for t in tags], 1 / (1 + np.exp(-logits[1:] / 2)), rtol=1e-5
    )


@pytest.mark.parametrize("batch", [1, 2, None])
def test_an_unreadable_file_gives_an_error_row(tagger, color_photo, tmp_path, batch):
    (tmp_path / "bad.jpg").write_bytes(b"not an image")
    paths = [
        color_photo("r.png", (255, 0, 0)),
        tmp_path / "bad.jpg",
        tmp_path / "gone.jpg",
        color_photo("b.png", (0, 0, 255)),
    ]
    rows = list(tagger.tag_files(paths, batch=batch))
    assert [row.path for row in rows] == [str(path) for path in paths]
    assert [row.tags and labels_of(row.tags) for row in rows] == [["red"], None, None, ["blue"]]
    assert [row.error and row.error[0] for row in rows] == [None, "ImageError", "ImageError", None]
    assert "bad.jpg" in rows[1].error[1]


def test_a_single_unreadable_image_raises(tagger, tmp_path):
    for broken in (tmp_path / "gone.jpg", b"not an image"):
        with pytest.raises(ImageError):
            tagger.tag(broken)


def test_a_gray_file_is_tagged_like_its_rgb_form(tagger, tmp_path):
    gray = np.full((9, 12), 200, np.uint8)
    images.save(gray, tmp_path / "gray.png")
    images.save(np.stack([gray] * 3, 2), tmp_path / "rgb.png")
    assert len(tagger.tag(tmp_path / "gray.png")) == 3
    assert tagger.tag(tmp_path / "gray.png") == tagger.tag(tmp_path / "rgb.png")


def test_rows_not_taken_do_not_become_the_tags_of_a_later_image(tagger, color_photo, photo):
    red = color_photo("red.png", (255, 0, 0))
    for _ in tagger.tag_files([red] * 50, batch=2):
        break
    assert tagger.tag(photo) == Tagger(tagger.bundle, tagger.engine).tag(photo)
    assert labels_of(tagger.tag(photo)) == ["red", "green"]


def test_tag_files_excludes_other_calls(tagger, photo):
    rows = tagger.tag_files([photo] * 50, batch=2)
    next(rows)
    with pytest.raises(RuntimeError, match="has not ended"):
        tagger.tag(photo)
    with pytest.raises(RuntimeError, match="has not ended"):
        next(tagger.tag_files([photo]))
    assert len(list(rows)) == 49
    assert labels_of(tagger.tag(photo)) == ["red", "green"]


def test_closing_closes_the_engine(tiny_bundle):
    close_calls = []

    class ClosingEngine:
        record = dataclasses.replace(Tagger.open(tiny_bundle, engine="fake").engine.record)

        def close(self):
            close_calls.append(True)

    engine: Any = ClosingEngine()
    with Tagger(Bundle(tiny_bundle), engine):
        assert close_calls == []
    assert close_calls == [True]


def test_a_missing_bundle_is_an_error(tmp_path):
    with pytest.raises(BundleError, match="is not a bundle"):
        Tagger.open(tmp_path / "gone.patchct")
