"""Training settings: text values, all faults at once, the round trip through a file, the table."""

from __future__ import annotations

import json
from typing import get_args

import pydantic
import pytest

from patchct_edge.bundle.preprocessing import FITS
from patchct_edge.errors import FaultsError, UserError
from patchct_edge.images import INTERPOLATIONS
from patchct_edge.train.config import TrainConfig, list_settings, parse_config, read_config


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
def test_a_value_may_be_text(name, value, expected):
    parsed = getattr(parse_config({name: value}), name)
    assert parsed == expected
    assert type(parsed) is type(expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epocs": 3}, "unknown setting 'epocs': did you mean 'epochs'?"),
        ({"epochs": 0}, "epochs: got 0, expected a whole number, 1 or more"),
        ({"epochs": "2.5"}, "epochs: got '2.5', expected a whole number, 1 or more"),
        ({"epochs": "many"}, "epochs: got 'many', expected a whole number, 1 or more"),
        ({"epochs": True}, "epochs: got True, expected a whole number, 1 or more"),
        ({"epochs": None}, "epochs: got None, expected a whole number, 1 or more"),
        ({"tau": 0.01}, "tau: got 0.01, expected a number from 0.03 to 1"),
        ({"clip": "1"}, "clip: got '1', expected a number from 0 to 0.99"),
        ({"lr_head": -1}, "lr_head: got -1, expected a number, 0 or more"),
        ({"lr_head": "NaN"}, "lr_head: got 'NaN', expected a number, 0 or more"),
        ({"lr_head": "Infinity"}, "lr_head: got 'Infinity', expected a number, 0 or more"),
        ({"lr_head": 10**400}, "lr_head: got 1000"),
        ({"seed": 2**64}, "seed: got 18446744073709551616, expected a whole number from 0 to"),
        ({"flip": "yes"}, "flip: got 'yes', expected true or false"),
        ({"flip": 1}, "flip: got 1, expected true or false"),
        ({"layers": []}, "layers: got [], expected one or more whole numbers"),
        ({"layers": "[-1, 0.5]"}, "layers: got '[-1, 0.5]', expected one or more whole numbers"),
        ({"layers": [True]}, "layers: got [True], expected one or more whole numbers"),
        ({"image_encoder": 3}, "image_encoder: got 3, expected text"),
        ({"fit": "stretch"}, "fit: got 'stretch', expected squash or crop or pad"),
        ({"cls_score": False, "navigator_score": "false"}, "expected at least one on"),
        ({"lr_backbone": 0, "lr_head": "0"}, "both are 0, which trains nothing"),
    ],
)
def test_a_fault_is_reported(values, message):
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
    assert "3 errors" in str(caught.value)


def test_faults_of_two_settings_together_are_listed_with_the_others():
    off = {"cls_score": False, "navigator_score": False, "lr_backbone": 0, "lr_head": 0}
    with pytest.raises(FaultsError, match=r"(?s)3 errors.*epochs.*at least one on.*trains nothing"):
        parse_config({"epochs": 0, **off})


def test_a_configuration_cannot_be_changed():
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        TrainConfig().epochs = 3


def test_every_setting_has_a_row_with_default_values_and_meaning():
    rows = {row.name: row for row in list_settings()}
    assert rows.keys() == TrainConfig().to_json().keys()
    assert rows["tau"][1:3] == ("0.1", "a number from 0.03 to 1")
    assert rows["epochs"][1:3] == ("8", "a whole number, 1 or more")
    assert rows["layers"][1:3] == ("[-1]", "one or more whole numbers, such as [-4, -1]")
    assert rows["fit"][1:3] == ("squash", "squash or crop or pad")
    assert rows["flip"][1:3] == ("true", "true or false")
    assert all(len(row.meaning) > 8 for row in rows.values())
    assert parse_config({row.name: row.default for row in rows.values()}) == TrainConfig()


@pytest.mark.parametrize(("name", "known"), [("fit", FITS), ("interpolation", INTERPOLATIONS)])
def test_choices_are_those_that_preprocessing_knows(name, known):
    assert set(get_args(TrainConfig.model_fields[name].annotation)) == set(known)


def test_the_defaults_are_valid():
    default = TrainConfig()
    assert parse_config({}) == default
    assert parse_config(default.to_json()) == default


def test_settings_survive_a_round_trip_through_a_file(tmp_path):
    config = parse_config({"layers": [-3, -1], "flip": False, "image_encoder": "modèle/été"})
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.to_json(), ensure_ascii=False), encoding="utf-8")
    assert read_config(path, {}) == config
    changed = read_config(path, {"epochs": "9"})
    assert (changed.epochs, changed.layers) == (9, (-3, -1))


@pytest.mark.parametrize("content", [None, b"{", b"[1, 2]", b"\xff"])
def test_an_unreadable_file_is_reported(tmp_path, content):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read .*config\.json"):
        read_config(path, {})


def test_a_fault_in_a_file_names_the_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"epochs": 0}')
    with pytest.raises(FaultsError, match=r"config\.json: epochs"):
        read_config(path, {})
