from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchct_edge.datasets import read_dataset
from patchct_edge.errors import UserError

Make = Callable[..., Path]

SPLITS = "image,labels,split\na.jpg,dog|cat,train\nb.jpg,cow|dog,val\nc.jpg,cow|yak,val\n"
NO_SPLITS = "image,labels\na.jpg,dog\nb.jpg,cat\nc.jpg,\n"


def test_the_source_says_what_it_is(csv_set: Make, coco_set: Make, pictures: Make) -> None:
    file = csv_set(NO_SPLITS)
    tsv = file.with_suffix(".TSV")
    tsv.write_text(NO_SPLITS.replace(",", "\t"))
    coco = coco_set([(1, "a.jpg")])
    for source, images in ((file, 3), (file.parent, 3), (tsv, 3), (coco, 1)):
        assert len(read_dataset(source)) == images


def test_a_voc_folder_is_known_by_its_annotations(voc_set: Make) -> None:
    root = voc_set({"a": "dog"})
    (root / "labels.csv").write_text("not,this\n")
    assert read_dataset(root).label_set == ("dog",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.csv", "no such data set"),
        ("nowhere", "no such data set"),
        ("notes.txt", "not a data set"),
        ("folder", "not a data set"),
        ("empty.csv", "the data set has no image"),
    ],
)
def test_no_data_set(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "notes.txt").write_text("image,labels\n")
    (tmp_path / "empty.csv").write_text("image,labels\n")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=message):
        read_dataset(tmp_path / name)


@pytest.mark.parametrize(
    ("split", "prefer", "names"),
    [
        (None, None, "abc"),
        ("all", "train", "abc"),
        ("train", None, "a"),
        ("val", "train", "bc"),
        (None, "train", "a"),
    ],
)
def test_split(csv_set: Make, split: str | None, prefer: str | None, names: str) -> None:
    data = read_dataset(csv_set(SPLITS), split=split, prefer=prefer)
    assert "".join(path.stem for path in data.paths) == names
    assert data.label_set == ("cat", "dog")


def test_a_split_that_is_not_there(csv_set: Make) -> None:
    with pytest.raises(UserError, match="no split of that name") as caught:
        read_dataset(csv_set(SPLITS), split="test")
    assert "train or val" in str(caught.value)


def test_a_data_set_without_splits_is_read_whole(csv_set: Make) -> None:
    file = csv_set(NO_SPLITS)
    data = read_dataset(file, prefer="val")
    assert len(data) == 3
    assert data.warnings == ("the data set names no split: all 3 images are read",)
    assert read_dataset(file).warnings == read_dataset(file, split="all").warnings == ()


@pytest.mark.parametrize(
    ("text", "label_set"),
    [
        (NO_SPLITS, ("cat", "dog")),
        (SPLITS, ("cat", "dog")),
        (SPLITS.replace("train", "test"), ("cat", "cow", "dog", "yak")),
    ],
    ids=["no split", "a train split", "no train split"],
)
def test_label_set(csv_set: Make, text: str, label_set: tuple[str, ...]) -> None:
    assert read_dataset(csv_set(text)).label_set == label_set


@pytest.mark.parametrize(
    ("labels", "warnings"),
    [
        (None, ("2 labels outside the label set are not used: cow (2), yak (1)",)),
        (["cow", "cat", "dog"], ("1 label outside the label set is not used: yak (1)",)),
        (["yak", "cow", "cat", "dog", "emu"], ()),
    ],
)
def test_labels_outside_the_label_set_are_counted(
    csv_set: Make, labels: list[str] | None, warnings: tuple[str, ...]
) -> None:
    data = read_dataset(csv_set(SPLITS), labels=labels)
    assert data.warnings == warnings
    assert data.label_set == tuple(labels or ("cat", "dog"))
    assert data.samples[2].labels == ("cow", "yak")


def test_a_warning_names_the_most_frequent_labels(csv_set: Make) -> None:
    labels = "|".join(f"label{n}" for n in range(30))
    [warning] = read_dataset(csv_set(f"image,labels\na.jpg,{labels}\n"), labels=["dog"]).warnings
    assert warning.startswith("30 labels outside the label set are not used: label0 (1), ")
    assert warning.endswith("label9 (1), and 20 more")


def test_a_label_set_holds_a_label_once(csv_set: Make) -> None:
    with pytest.raises(UserError, match="a label twice"):
        read_dataset(csv_set(SPLITS), labels=["dog", "cat", "dog"])


COCO = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": []}
KEYS = ["id", "file_name", "split", "name", "image_id", "category_id", "iscrowd"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("labels.csv", b"image,labels\n"),
        ("labels.json", b'{"images": '),
        ("Annotations/a.xml", b"<annotation>"),
        ("ImageSets/Main/train.txt", b"a\n"),
    ],
)
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=80) | st.text(max_size=80).map(str.encode), begun=st.booleans())
def test_arbitrary_bytes_raise_user_errors_only(
    tmp_path_factory: pytest.TempPathFactory, name: str, start: bytes, data: bytes, begun: bool
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    file = folder / name
    for needed in (folder / "Annotations", file.parent):
        needed.mkdir(parents=True, exist_ok=True)
    file.write_bytes(start + data if begun else data)
    with suppress(UserError):
        read_dataset(file if file.parent == folder else folder)


@settings(max_examples=100, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(sorted(COCO)), JSON | st.lists(JSON, max_size=3)))
def test_arbitrary_json_raises_user_errors_only(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]
) -> None:
    file = tmp_path_factory.mktemp("json") / "labels.json"
    file.write_text(json.dumps({**COCO, **changes}))
    with suppress(UserError):
        read_dataset(file)


def test_real_photos() -> None:
    root = Path(os.environ.get("PATCHCT_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (root / "voc" / "labels.csv").is_file():
        pytest.skip(f"no real photos in {root}; PATCHCT_DATA names their folder")
    whole, train, val = (
        read_dataset(root / "voc" / "labels.csv", split=split) for split in ("all", "train", "val")
    )
    assert (len(whole), len(train), len(val)) == (4421, 4021, 400)
    assert len(whole.label_set) == 20
    assert whole.label_set == train.label_set == val.label_set
    targets, ignored = whole.targets()
    assert targets.sum() > ignored.sum() > 0
    assert not (ignored & ~targets).any()

    coco = read_dataset(root / "coco")
    assert len(coco) == 256
    assert len(coco.label_set) == 71
    assert coco.warnings[0].startswith("5 labels outside the label set are not used: ")
