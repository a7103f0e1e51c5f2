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

Writer = Callable[..., Path]

SPLITS = "image,labels,split\na.jpg,dog|cat,train\nb.jpg,cow|dog,val\nc.jpg,cow|yak,val\n"
NO_SPLITS = "image,labels\na.jpg,dog\nb.jpg,cat\nc.jpg,\n"


def test_the_format_follows_from_the_source(
    write_csv: Writer, write_coco: Writer, write_photos: Writer
) -> None:
    file = write_csv(NO_SPLITS)
    tsv = file.with_suffix(".TSV")
    tsv.write_text(NO_SPLITS.replace(",", "\t"))
    coco = write_coco([(1, "a.jpg")])
    for source, images in ((file, 3), (file.parent, 3), (tsv, 3), (coco, 1)):
        assert len(read_dataset(source)) == images


def test_annotations_mark_a_voc_folder(write_voc: Writer) -> None:
    root = write_voc({"a": "dog"})
    (root / "labels.csv").write_text("not,this\n")
    assert read_dataset(root).label_set == ("dog",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.csv", "no such dataset"),
        ("nowhere", "no such dataset"),
        ("notes.txt", "not a dataset"),
        ("folder", "not a dataset"),
        ("empty.csv", "the dataset has no image"),
    ],
)
def test_other_sources_are_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "notes.txt").write_text("image,labels\n")
    (tmp_path / "empty.csv").write_text("image,labels\n")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=message):
        read_dataset(tmp_path / name)


@pytest.mark.parametrize(
    ("split", "default_split", "names"),
    [
        (None, None, "abc"),
        ("all", "train", "abc"),
        ("train", None, "a"),
        ("val", "train", "bc"),
        (None, "train", "a"),
    ],
)
def test_split(write_csv: Writer, split: str | None, default_split: str | None, names: str) -> None:
    dataset = read_dataset(write_csv(SPLITS), split=split, default_split=default_split)
    assert "".join(path.stem for path in dataset.paths) == names
    assert dataset.label_set == ("cat", "dog")


def test_an_unknown_split_is_refused(write_csv: Writer) -> None:
    with pytest.raises(UserError, match="no such split") as caught:
        read_dataset(write_csv(SPLITS), split="test")
    assert "train or val" in str(caught.value)


def test_a_dataset_without_splits_is_used_whole(write_csv: Writer) -> None:
    file = write_csv(NO_SPLITS)
    dataset = read_dataset(file, default_split="val")
    assert len(dataset) == 3
    assert dataset.warnings == ("the dataset has no splits: using all 3 images",)
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
def test_label_set(write_csv: Writer, text: str, label_set: tuple[str, ...]) -> None:
    assert read_dataset(write_csv(text)).label_set == label_set


@pytest.mark.parametrize(
    ("labels", "warnings"),
    [
        (None, ("2 labels outside the label set are not used: cow (2), yak (1)",)),
        (["cow", "cat", "dog"], ("1 label outside the label set is not used: yak (1)",)),
        (["yak", "cow", "cat", "dog", "emu"], ()),
    ],
)
def test_labels_outside_the_label_set_are_counted(
    write_csv: Writer, labels: list[str] | None, warnings: tuple[str, ...]
) -> None:
    dataset = read_dataset(write_csv(SPLITS), labels=labels)
    assert dataset.warnings == warnings
    assert dataset.label_set == tuple(labels or ("cat", "dog"))
    assert dataset.samples[2].labels == ("cow", "yak")


def test_a_warning_names_the_most_frequent_labels(write_csv: Writer) -> None:
    labels = "|".join(f"label{n}" for n in range(30))
    [warning] = read_dataset(write_csv(f"image,labels\na.jpg,{labels}\n"), labels=["dog"]).warnings
    assert warning.startswith("30 labels outside the label set are not used: label0 (1), ")
    assert warning.endswith("label9 (1), and 20 more")


def test_a_label_set_with_a_label_twice_is_refused(write_csv: Writer) -> None:
    with pytest.raises(UserError, match="a label twice"):
        read_dataset(write_csv(SPLITS), labels=["dog", "cat", "dog"])


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
    targets, ignored = whole.build_targets()
    assert targets.sum() > ignored.sum() > 0
    assert not (ignored & ~targets).any()

    coco = read_dataset(root / "coco")
    assert len(coco) == 256
    assert len(coco.label_set) == 71
    assert coco.warnings[0].startswith("5 labels outside the label set are not used: ")
