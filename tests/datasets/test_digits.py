"""The demo's scenes: the same every time, labeled as drawn, val never seen in training."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from patchct_edge import images
from patchct_edge.datasets import digits, read_dataset, read_labels_file
from patchct_edge.errors import MissingLibraryError

pytest.importorskip("sklearn")

TRAIN, VAL = 120, 40


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return digits.make_scenes(tmp_path_factory.mktemp("scenes"), train=TRAIN, val=VAL, singles=0.5)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_boxes(folder: Path) -> dict[str, list[dict[str, str]]]:
    boxes: dict[str, list[dict[str, str]]] = {}
    for row in read_rows(folder / "boxes.csv"):
        boxes.setdefault(row["image"], []).append(row)
    return boxes


def read_files(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_same_arguments_write_the_same_bytes(scenes, tmp_path):
    digits.make_scenes(tmp_path, train=TRAIN, val=VAL, singles=0.5)
    assert read_files(tmp_path) == read_files(scenes.parent)


def test_a_scene_does_not_depend_on_the_number_of_scenes(scenes, tmp_path):
    digits.make_scenes(tmp_path, train=3, val=2, singles=0.5)
    few, many = read_files(tmp_path / "images"), read_files(scenes.parent / "images")
    assert few.items() <= many.items()


def test_another_seed_draws_other_scenes(scenes, tmp_path):
    digits.make_scenes(tmp_path, train=3, val=2, seed=1, singles=0.5)
    few, many = read_files(tmp_path / "images"), read_files(scenes.parent / "images")
    assert len({few[name] for name in few} & set(many.values())) == 0


def test_the_dataset_has_no_faults_and_no_warnings(scenes):
    train = read_dataset(scenes, split="train")
    val = read_dataset(scenes.parent, split="val")
    assert (len(train), len(val)) == (TRAIN, VAL)
    assert train.label_set == val.label_set == tuple(sorted(digits.DIGITS))
    assert train.warnings == val.warnings == ()
    assert images.decode(val.paths[0]).shape == (64, 64, 3)


def test_every_label_has_a_prompt(scenes):
    labels, prompts = read_labels_file(scenes.parent / "labels.txt")
    assert labels == digits.DIGITS
    assert prompts["seven"] == "A handwritten digit seven."
    assert set(prompts) == set(labels)


def test_the_labels_are_those_of_the_boxes(scenes):
    boxes = read_boxes(scenes.parent)
    for row in read_rows(scenes):
        placed = [box["label"] for box in boxes[row["image"]]]
        assert 1 <= len(placed) <= 3
        assert row["labels"] == "|".join(sorted(set(placed)))
    assert len(boxes) == TRAIN + VAL


def test_boxes_lie_in_the_scene_contain_a_digit_and_hardly_overlap(scenes):
    for placed in read_boxes(scenes.parent).values():
        boxes = []
        for row in placed:
            edges = [float(row[edge]) * 64 for edge in ("xmin", "ymin", "xmax", "ymax")]
            left, top, right, bottom = (round(edge) for edge in edges)
            assert edges == pytest.approx([left, top, right, bottom], abs=1e-3)
            assert 0 <= left < right <= 64
            assert 0 <= top < bottom <= 64
            assert 14 <= max(right - left, bottom - top) <= 38
            assert row["difficult"] == "0"
            boxes.append(digits.PlacedDigit(row["label"], left, top, right, bottom))
        for n, box in enumerate(boxes):
            assert all(box.overlap(other) <= digits.MAX_OVERLAP for other in boxes[:n])


def test_a_box_fits_its_ink():
    """Every edge of the box of a lone digit touches pixels much darker than the paper."""
    pool, _ = digits.read_handwriting()
    for n in range(40):
        scene, (box,) = digits.compose_scene(np.random.default_rng(n), pool, 1, 64, jitter=1.0)
        dark = scene.sum(axis=2) < 330  # ink sums to 170, paper to 495 and more
        rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
        ink_box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert np.abs(np.subtract(ink_box, box[1:])).max() <= 3


def test_the_label_of_a_box_is_the_class_of_the_digit_in_it():
    """An upright digit, shrunk to its 8 pixels, is nearest to those of its own class."""
    pool, unseen = digits.read_handwriting()
    hits = 0
    for n in range(60):
        scene, (box,) = digits.compose_scene(np.random.default_rng(n), unseen, 1, 64, jitter=0.0)
        crop = scene[box.top : box.bottom, box.left : box.right]
        width, height = (
            max(2, round(8 * side / (box.bottom - box.top))) for side in crop.shape[1::-1]
        )
        small = images.resize(crop, width, height, "bilinear").sum(axis=2).astype(float)
        ink = np.zeros((12, 12))
        left = (12 - width) // 2
        ink[2 : 2 + height, left : left + width] = 1 - (small - 170).clip(0, 400) / 400
        distances = ((pool.digits - ink) ** 2).sum(axis=(1, 2))
        hits += digits.DIGITS[pool.classes[distances.argmin()]] == box.label
    assert hits >= 50


def test_the_handwriting_of_val_is_never_seen_in_training():
    train, val = digits.read_handwriting()
    assert (len(train.classes), len(val.classes)) == (1347, 450)
    seen = {digit.tobytes() for digit in train.digits}
    assert not any(digit.tobytes() in seen for digit in val.digits)
    for digit in range(10):
        assert abs((train.classes == digit).mean() - (val.classes == digit).mean()) < 0.005


def test_each_split_is_composed_of_its_own_handwriting(tmp_path, monkeypatch):
    used = []
    compose = digits.compose_scene

    def compose_and_record(rng, pool, *rest, **more):
        used.append(pool)
        return compose(rng, pool, *rest, **more)

    monkeypatch.setattr(digits, "compose_scene", compose_and_record)
    train, val = digits.read_handwriting()
    digits.make_scenes(tmp_path, train=3, val=2)
    for pool, expected in zip(used, [train] * 3 + [val] * 2, strict=True):
        np.testing.assert_array_equal(pool.digits, expected.digits)


def test_singles_is_the_fraction_of_train_scenes_with_one_digit(scenes):
    boxes = read_boxes(scenes.parent)
    is_single = [len(placed) == 1 for image, placed in boxes.items() if "train" in image]
    assert np.mean(is_single) == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize(
    ("digits_range", "singles", "counts"),
    [((1, 1), 0.0, {1}), ((2, 2), 0.0, {2}), ((1, 3), 1.0, {1}), ((1, 2), 0.0, {2})],
)
def test_the_number_of_digits_in_train_scenes(tmp_path, digits_range, singles, counts):
    digits.make_scenes(tmp_path, train=12, val=0, digits=digits_range, singles=singles, size=96)
    assert {len(placed) for placed in read_boxes(tmp_path).values()} == counts


@pytest.mark.parametrize("wrong", [{"size": 40}, {"digits": (0, 2)}, {"digits": (3, 2)}])
def test_impossible_scenes_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="no scenes"):
        digits.make_scenes(tmp_path, train=1, val=1, **wrong)
    assert not any(tmp_path.iterdir())


def test_the_smallest_scene_has_room_for_the_largest_digit(tmp_path):
    digits.make_scenes(tmp_path, train=100, val=0, size=digits.MIN_SCENE_SIDE_PX)
    assert len(read_boxes(tmp_path)) == 100


def test_a_missing_scikit_learn_is_named_with_its_version_range(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingLibraryError, match="pip install 'scikit-learn>="):
        digits.make_scenes(tmp_path, train=1, val=1)
