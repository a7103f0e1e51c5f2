from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from patchct_edge.datasets import read_dataset
from patchct_edge.errors import FaultsError, UserError

Writer = Callable[..., Path]


def test_labels_and_crowds(
    write_coco: Writer, write_photos: Writer, summarize: Callable[..., Any]
) -> None:
    write_photos("a.jpg", "b.jpg", "c.jpg")
    file = write_coco(
        [(7, "a.jpg"), (5, "b.jpg"), (9, "c.jpg")],
        [(5, 3, 1), (7, 2), (7, 1, 1), (7, 1, 0), (5, 2), (5, 3, 1)],
    )
    dataset = read_dataset(file)
    assert summarize(dataset) == {
        "a.jpg": ("dog|cat", "", None),
        "b.jpg": ("cow|dog", "cow", None),
        "c.jpg": ("", "", None),
    }


def test_the_label_set_keeps_the_order_of_the_categories(
    write_coco: Writer, write_photos: Writer
) -> None:
    write_photos("a.jpg")
    file = write_coco([(1, "a.jpg")], [(1, 1), (1, 3)], categories="zebra dog ant")
    assert read_dataset(file).label_set == ("zebra", "ant")


@pytest.mark.parametrize(
    ("json_name", "photo"),
    [
        ("labels.json", "a.jpg"),
        ("labels.json", "images/a.jpg"),
        ("annotations/labels.json", "a.jpg"),
        ("annotations/labels.json", "images/a.jpg"),
        ("annotations/instances_val2017.json", "val2017/a.jpg"),
        ("annotations/instances_val2017.json", "images/val2017/a.jpg"),
        ("instances_val2017.json", "val2017/a.jpg"),
    ],
)
def test_image_files_are_found_around_the_json(
    write_coco: Writer, write_photos: Writer, json_name: str, photo: str
) -> None:
    root = write_photos(photo)
    assert read_dataset(write_coco([(1, "a.jpg")], name=json_name)).paths == [root / photo]


def test_folders_are_searched_in_order(write_coco: Writer, write_photos: Writer) -> None:
    order = [
        "given/a.jpg",
        "given/val2017/a.jpg",
        "json/a.jpg",
        "json/val2017/a.jpg",
        "json/images/a.jpg",
        "a.jpg",
        "images/a.jpg",
        "images/val2017/a.jpg",
    ]
    root = write_photos(*order)
    file = write_coco([(1, "a.jpg")], name="json/instances_val2017.json")
    for photo in order:
        assert read_dataset(file, images=root / "given").paths == [root / photo]
        (root / photo).unlink()


def test_a_relative_path_finds_the_parent_folder(
    write_coco: Writer, write_photos: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_photos("images/a.jpg")
    write_coco([(1, "a.jpg")], name="annotations/labels.json")
    monkeypatch.chdir(root / "annotations")
    assert read_dataset(Path("labels.json")).paths == [root / "images" / "a.jpg"]


@pytest.mark.parametrize(
    ("json_name", "image", "split"),
    [
        ("labels.json", ("a.jpg",), None),
        ("instances_train2017.json", ("a.jpg",), "train"),
        ("person_Val.json", ("a.jpg",), "val"),
        ("instances_train2017.json", ("val2017/a.jpg",), "val"),
        ("instances_train2017.json", ("x/TEST/a.jpg",), "test"),
        ("instances_train2017.json", ("val2017/a.jpg", "holdout"), "holdout"),
        ("instances_train2017.json", ("a.jpg", None), "train"),
        ("labels.json", ("train_04.jpg",), None),
        ("latest.json", ("festival/a.jpg",), None),
    ],
)
def test_split(
    write_coco: Writer, write_photos: Writer, json_name: str, image: Any, split: str
) -> None:
    write_photos(image[0])
    [sample] = read_dataset(write_coco([(1, *image)], name=json_name)).samples
    assert sample.split == split


IMAGE = {"id": 1, "file_name": "a.jpg"}
CATEGORY = {"id": 1, "name": "cat"}
ANNOTATION = {"id": 1, "image_id": 1, "category_id": 1}


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({"images": None}, ["no list 'images'"]),
        ({"categories": {}, "annotations": 3}, ["no list 'categories'", "no list 'annotations'"]),
        ({"images": [[1], IMAGE]}, ["images[0] is not an object"]),
        ({"images": [{"id": 1}]}, ["images[0]: 'file_name' is not text"]),
        (
            {"images": [IMAGE, {"id": "2", "file_name": 3}]},
            ["images[1]: 'id' is not a whole number", "images[1]: 'file_name' is not text"],
        ),
        ({"images": [IMAGE, IMAGE]}, ["images[1]: id 1 occurs twice"]),
        (
            {"images": [IMAGE, {**IMAGE, "id": 2}]},
            ["image 2: another image has the file 'a.jpg' too"],
        ),
        ({"images": [{**IMAGE, "split": 1}]}, ["image 1: 'split' is not text"]),
        ({"images": [{**IMAGE, "file_name": "."}]}, ["image 1: no such file: '.'"]),
        ({"images": [{**IMAGE, "file_name": "\0"}]}, ["image 1: no such file: '\0'"]),
        ({"categories": [{"id": 1}]}, ["categories[0]: 'name' is not text"]),
        ({"categories": [CATEGORY, CATEGORY]}, ["categories[1]: id 1 occurs twice"]),
        ({"categories": [{"id": 1, "name": " "}]}, ["category 1: the name is empty"]),
        (
            {"categories": [CATEGORY, {**CATEGORY, "id": 2}]},
            [f"category {n}: another category is named 'cat' too" for n in (1, 2)],
        ),
        ({"annotations": [ANNOTATION, ANNOTATION]}, ["annotations[1]: id 1 occurs twice"]),
        (
            {"annotations": [{**ANNOTATION, "image_id": 1.0}]},
            ["annotations[0]: 'image_id' is not a whole number"],
        ),
        (
            {"annotations": [{**ANNOTATION, "image_id": 8, "category_id": 9}]},
            ["annotation 1: no image has the id 8", "annotation 1: no category has the id 9"],
        ),
        (
            {"annotations": [{**ANNOTATION, "iscrowd": "no"}]},
            ["annotation 1: 'iscrowd' is not 0 or 1"],
        ),
    ],
)
def test_faults(
    write_photos: Writer, collect_faults: Callable[..., Any], change: Any, messages: list[str]
) -> None:
    file = write_photos("a.jpg") / "labels.json"
    data = {"images": [IMAGE], "categories": [CATEGORY], "annotations": [ANNOTATION]}
    file.write_text(json.dumps({**data, **change}))
    assert collect_faults(lambda: read_dataset(file)) == [(None, message) for message in messages]


def test_all_faults_are_listed_at_once(write_coco: Writer) -> None:
    file = write_coco([(1, "a.jpg"), (1, "b.jpg"), (2, 3)], [(5, 5), (2, 1)])
    with pytest.raises(FaultsError, match="cannot read the dataset") as caught:
        read_dataset(file)
    assert len(caught.value.faults) == 5
    assert "--images FOLDER" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "row", "message"),
    [
        ('{\n"images": [],\n}', 3, "not JSON: "),
        ("", 1, "not JSON: "),
        ("[]", None, "no list 'images'"),
        ("[" * 100_000, None, "not JSON: "),
        ("9" * 5_000, None, "not JSON: "),
    ],
)
def test_what_is_no_coco_json(
    tmp_path: Path, collect_faults: Callable[..., Any], text: str, row: int | None, message: str
) -> None:
    file = tmp_path / "labels.json"
    file.write_text(text)
    fault = collect_faults(lambda: read_dataset(file))[0]
    assert fault[0] == row
    assert fault[1].startswith(message)


def test_an_images_folder_must_be_there_and_is_for_coco_only(
    write_coco: Writer, write_csv: Writer, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no such folder of images"):
        read_dataset(write_coco([]), images=tmp_path / "nowhere")
    with pytest.raises(UserError, match="only a COCO JSON"):
        read_dataset(write_csv("image,labels\na.jpg,dog\n"), images=tmp_path)
