"""Settings: text values, faults all at once, and the round trip through a file."""

from __future__ import annotations

import json

import pytest

from patchct_edge.errors import FaultsError, UserError
from patchct_edge.train.config import TrainConfig, parse_config, read_config


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", "7", 7),
        ("epochs", 7, 7),
        ("lr_head", "1e-4", 1e-4),
        ("lr_head", "1", 1.0),
        ("lr_head", 1, 1.0),
        ("flip", "false", False),
        ("flip", True, True),
        ("layers", "-1", (-1,)),
        ("layers", "[-4, -1]", (-4, -1)),
        ("layers", [-4, -1], (-4, -1)),
        ("layers", -2, (-2,)),
        ("fit", "pad", "pad"),
        ("image_encoder", "7", "7"),
        ("label_encoder", "tables/labels.npz", "tables/labels.npz"),
    ],
)
def test_values_may_be_text(name, value, expected):
    found = getattr(parse_config({name: value}), name)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epocs": 3}, "unknown setting 'epocs': did you mean 'epochs'?"),
        ({"epochs": 0}, "epochs: got 0, expected 1 to"),
        ({"epochs": "2.5"}, "epochs: got '2.5', expected int"),
        ({"epochs": "many"}, "epochs: got 'many', expected int"),
        ({"epochs": True}, "epochs: got True, expected int"),
        ({"epochs": None}, "epochs: got None, expected int"),
        ({"tau": 0.01}, "tau: got 0.01, expected 0.03 to 1"),
        ({"clip": "1"}, "clip: got 1.0, expected 0 to 0.99"),
        ({"lr_head": -1}, "lr_head: got -1.0"),
        ({"lr_head": "NaN"}, "lr_head: got nan"),
        ({"lr_head": "Infinity"}, "lr_head: got inf"),
        ({"lr_head": 10**400}, "lr_head: got 1000"),
        ({"seed": 2**64}, "seed: got 18446744073709551616"),
        ({"flip": "yes"}, "flip: got 'yes', expected bool"),
        ({"flip": 1}, "flip: got 1, expected bool"),
        ({"layers": []}, "layers: got [], expected tuple"),
        ({"layers": "[-1, 0.5]"}, "layers: got '[-1, 0.5]', expected tuple"),
        ({"layers": [True]}, "layers: got [True], expected tuple"),
        ({"image_encoder": 3}, "image_encoder: got 3, expected str"),
        ({"fit": "stretch"}, "fit: got 'stretch', expected squash or crop or pad"),
        ({"cls_score": False, "navigator_score": "false"}, "at least one must be on"),
        ({"lr_backbone": 0, "lr_head": "0"}, "something to train"),
    ],
)
def test_faults_are_refused(values, message):
    with pytest.raises(FaultsError) as caught:
        parse_config(values)
    (fault,) = caught.value.faults
    assert message in fault.message


def test_all_faults_are_listed_at_once():
    with pytest.raises(FaultsError) as caught:
        parse_config({"epocs": 3, "tau": 9, "dim": "wide", "flip": True}, "run/config.json")
    assert [fault.message.split(":")[0] for fault in caught.value.faults] == [
        "unknown setting 'epocs'",
        "tau",
        "dim",
    ]
    assert {fault.file for fault in caught.value.faults} == {"run/config.json"}
    assert "3 faults" in str(caught.value)


def test_the_defaults_are_valid():
    default = TrainConfig()
    assert parse_config({}) == default
    assert parse_config(default.to_json()) == default


def test_a_file_gives_back_what_was_written(tmp_path):
    config = parse_config({"layers": [-3, -1], "flip": False, "image_encoder": "modèle/été"})
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.to_json(), ensure_ascii=False), encoding="utf-8")
    assert read_config(path, {}) == config
    changed = read_config(path, {"epochs": "9"})
    assert (changed.epochs, changed.layers) == (9, (-3, -1))


@pytest.mark.parametrize("content", [None, b"{", b"[1, 2]", b"\xff"])
def test_a_file_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read .*config\.json"):
        read_config(path, {})


def test_faults_of_a_file_name_it(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"epochs": 0}')
    with pytest.raises(FaultsError, match=r"config\.json: epochs"):
        read_config(path, {})
