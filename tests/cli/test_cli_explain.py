"""patchct explain: pictures, pages and numbers of photos; prototypes; user errors."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from patchct_edge import images

pytest.importorskip("openvino")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
RED, BLUE, DARK = (255, 0, 0), (0, 0, 255), (0, 0, 0)


@pytest.fixture
def explain(run_cli, tiny_bundle, tmp_path, monkeypatch):
    """Run `patchct explain` in an empty folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return lambda *words, model=tiny_bundle, **options: run_cli(
        "explain", *words, "--model", model, **options
    )


def list_folder():
    """Return the names in the current folder."""
    return sorted(os.listdir())  # noqa: PTH208


def read_json(name="a.json"):
    with open(name, encoding="utf-8") as file:
        return json.load(file)


def test_the_default_is_a_picture(explain, photos):
    result = explain(photos)
    assert list_folder() == ["maps.png"]
    assert "wrote maps.png" in result.stderr
    assert result.stdout == ""
    picture = images.decode("maps.png")
    for color in ((250, 130, 20), (10, 10, 10)):
        assert (picture == color).all(-1).sum() > 9000  # each photo is there, enlarged


def test_a_page_has_a_section_for_each_photo(explain, photos):
    explain(photos, "-o", "a.html")
    assert list_folder() == ["a.html"]
    with open("a.html", encoding="utf-8") as file:
        page = file.read()
    assert page.count("<section>") == 3
    assert page.count("<img") == (2 + 2) + 1 + (2 + 2)  # photo and heat maps
    assert page.count("no tag") == 2  # caption and alternative text
    assert "dark.png" in page
    assert "not predicted" not in page


def test_json_output(explain, color_photo):
    photo = color_photo("p.png", DARK, {(0, 0): RED, (0, 1): RED, (1, 0): RED, (1, 1): BLUE})
    explain(photo, "-o", "a.json")
    content = read_json()
    assert content["grid"] == [2, 2]
    assert content["engine"]["engine"] == "openvino"
    (row,) = content["photos"]
    assert row["path"] == str(photo)
    (red,) = row["maps"]
    assert (red["label"], red["tag"]) == ("red", True)
    np.testing.assert_allclose(red["similarity"], [[1, 1], [1, 0]], atol=1e-5)
    np.testing.assert_allclose(red["backward"], [[1 / 3, 1 / 3], [1 / 3, 0]], atol=1e-4)


def test_a_label_that_was_not_predicted_can_be_shown(explain, color_photo):
    photo = color_photo("p.png", RED, {(1, 1): BLUE})
    explain(photo, "-o", "a.json", "--label", "blue", "--label", "green", "--label", "blue")
    (row,) = read_json()["photos"]
    assert [label_map["label"] for label_map in row["maps"]] == ["blue", "green"]
    assert not any(label_map["tag"] for label_map in row["maps"])
    assert row["maps"][0]["strongest"] == {"patch": [1, 1], "similarity": 1.0}
    explain(photo, "-o", "a.html", "--label", "blue")
    with open("a.html", encoding="utf-8") as file:
        assert "not predicted; similarity 1.00" in file.read()


def test_npy_output(explain, color_photo):
    names = [color_photo(f"{n}.png", DARK, {(n, 1): BLUE}) for n in (0, 1)]
    result = explain(*names, "-o", "a.npy")
    assert "labels: red, green, blue" in result.stderr
    array = np.load("a.npy", allow_pickle=False)
    assert array.dtype == np.float32
    assert array.shape == (2, 3, 2, 2)
    np.testing.assert_allclose(array[:, 2], [[[0, 1], [0, 0]], [[0, 0], [0, 1]]], atol=1e-5)
    result = explain(*names, "-o", "a.npy", "--label", "blue", "--label", "red")
    assert "labels: blue, red" in result.stderr
    reordered = np.load("a.npy")
    np.testing.assert_array_equal(reordered, array[:, [2, 0]])


@pytest.mark.parametrize("name", ["a.png", "a.html", "a.json", "a.npy"])
def test_an_unreadable_photo_is_reported_and_the_others_are_explained(
    explain, photos, tmp_path, name
):
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    words = (tmp_path / "broken.jpg", photos / "amber.png", tmp_path / "gone.png")
    result = explain(*words, "-o", name, code=1)
    assert result.stderr.count("warning:") == 2
    assert "broken.jpg" in result.stderr
    assert "no such file" in result.stderr
    assert list_folder() == [name]
    if name == "a.npy":
        assert len(np.load(name)) == 1


def test_without_a_readable_photo_nothing_is_written(explain, tmp_path):
    explain(tmp_path / "gone.png", code=1)
    assert list_folder() == []


def test_markup_in_labels_is_escaped(explain, write_bundle, tmp_path, photos):
    labels = ("<script>alert(1)</script>", "$x^2$", "$x_")
    bundle = write_bundle(tmp_path / "x.patchct", labels=labels)
    label_options = [word for label in labels for word in ("--label", label)]
    explain(photos, *label_options, "-o", "a.png", model=bundle)
    explain(photos, *label_options, "-o", "a.html", model=bundle)
    with open("a.html", encoding="utf-8") as file:
        page = file.read()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "$x^2$" in page


def test_a_path_that_is_not_utf8_is_kept(explain, photos):
    name = os.fsdecode(b"\xff.png")
    with open(name, "wb") as file:
        file.write((photos / "amber.png").read_bytes())
    for output in ("a.png", "a.html", "a.json"):
        explain(name, "-o", output)
    assert read_json()["photos"][0]["path"] == name


@pytest.mark.parametrize("name", ["p.png", "p.html"])
def test_prototypes_of_a_dataset(explain, squares, exported_bundle, name):
    words = ("--prototypes", squares, "--precision", "fp32", "-o", name)
    explain(*words, model=exported_bundle)
    assert list_folder() == [name]
    if name == "p.html":
        with open(name, encoding="utf-8") as file:
            page = file.read()
        assert page.count("<section>") == 3
        assert page.count("<img") == 3 * 16
        assert page.count("<div>✓") > 40  # it knows the colors


def test_prototypes_of_a_split_and_a_label(explain, write_squares, tmp_path):
    data = write_squares(tmp_path / "data", train=12, val=5)
    (tmp_path / "data/val-3.png").write_bytes(b"not an image")
    words = ("--prototypes", data, "-o", "p.html", "--label", "blue", "--engine", "fake")
    for split, code, count in ((None, 1, 4), ("train", 0, 12)):
        options = ("--split", split) if split else ()
        result = explain(*words, *options, code=code)
        assert ("val-3.png" in result.stderr) == bool(code)
        with open("p.html", encoding="utf-8") as file:
            page = file.read()
        assert page.count("<section>") == 1
        assert page.count("<img") == count


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["{p}", "--label", "rde"], ["no such label", "rde", "did you mean 'red'?"]),
        (
            ["{p}", "-o", "a.jpg"],
            ["is not supported here", ".jpg", ".png or .html or .json or .npy"],
        ),
        (["{p}", "-o", "maps"], ["is not supported here", "no suffix"]),
        (["--prototypes", "{d}", "-o", "a.json"], ["is not supported here", ".png or .html"]),
        (["{p}", "-o", "no/a.png"], ["cannot write", "no folder no", "mkdir -p no"]),
        (["{p}/*.gif"], ["no images found"]),
        (["{p}", "--prototypes", "{d}"], ["either photos or --prototypes", "both"]),
        (["{p}", "--split", "val"], ["belong to the dataset of --prototypes", "val"]),
        (["{p}", "-o", f"{'x' * 250}.png"], ["cannot write", "too long"]),
        ([], ["either photos or --prototypes", "neither"]),
        (["{p}", "--engine", "openvin"], ["openvin", "'openvino'?"]),
        (["--prototypes", "{d}/gone.csv"], ["no such dataset"]),
    ],
    ids=str,
)
def test_user_errors(explain, photos, squares, words, expected):
    result = explain(*(word.format(p=photos, d=squares) for word in words), code=2)
    assert [part for part in expected if part not in result.stderr] == []
    assert list_folder() == []


def test_a_folder_is_not_overwritten(explain, photos):
    os.mkdir("a.png")  # noqa: PTH102
    assert "a folder" in explain(photos, "-o", "a.png", code=2).stderr


def test_a_photo_is_never_overwritten(explain, photos):
    data = (photos / "amber.png").read_bytes()
    with open("q.png", "wb") as file:
        file.write(data)
    os.symlink("q.png", "link.png")  # noqa: PTH211
    for words in (["q.png", "-o", "q.png"], [".", "-o", "q.png"], ["q.png", "-o", "link.png"]):
        assert "-o would overwrite" in explain(*words, code=2).stderr
    with open("q.png", "rb") as file:
        assert file.read() == data


def test_too_many_photos_for_one_png(explain, photos):
    too_many = [photos / "amber.png"] * 101
    result = explain(*too_many, code=2)
    assert "too many photos for one PNG" in result.stderr
    assert "-o maps.html" in result.stderr
    explain(*too_many, "-o", "a.json", "--engine", "fake")
    assert len(read_json()["photos"]) == 101
