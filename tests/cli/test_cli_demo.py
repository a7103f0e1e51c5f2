"""patchct demo: the files it writes, and its errors."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

from patchct_edge import images
from patchct_edge.bundle import Bundle
from patchct_edge.bundle.manifest import Stage
from patchct_edge.cli import console, demo
from patchct_edge.datasets.digits import DIGITS


def test_a_folder_with_a_demo_is_refused(run_cli, tmp_path):
    (tmp_path / "demo" / "run").mkdir(parents=True)
    result = run_cli("demo", "--quick", "--out", tmp_path / "demo", code=2)
    assert "already holds a demo" in result.stderr
    assert f"rm -r {tmp_path / 'demo'}" in result.stderr
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["run"]


@pytest.mark.parametrize("name", ["file", "file/demo"])
def test_an_output_that_cannot_be_a_folder_is_refused(run_cli, tmp_path, name):
    (tmp_path / "file").write_text("a file")
    result = run_cli("demo", "--quick", "--out", tmp_path / name, code=2)
    assert f"cannot make the folder {tmp_path / name}" in result.stderr
    assert (tmp_path / "file").read_text() == "a file"


@pytest.mark.parametrize("library", demo.LIBRARIES_NEEDED, ids=lambda library: library.name)
def test_a_missing_library_is_reported_before_anything_is_drawn(
    run_cli, tmp_path, monkeypatch, library
):
    monkeypatch.setitem(sys.modules, library.module, None)
    result = run_cli("demo", "--quick", "--out", tmp_path / "demo", code=3)
    assert f"{library.name} is not installed" in result.stderr
    assert f"pip install '{library.name}" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_failed_gate_shows_the_table(monkeypatch, capsys):
    export = pytest.importorskip("patchct_edge.export.export")
    stage = Stage("int8", "fp32", "openvino", 9, 0.5, 0.1, 0.4, gate="flips <= 3 %", passed=False)

    def fail(*_):
        raise export.StageGateError("far off", stages=[stage], got="1", expected="0", fix="photos")

    monkeypatch.setattr(export, "export_bundle", fail)
    monkeypatch.setattr(console.out, "width", 200)
    console.set_up_logging()
    with pytest.raises(export.StageGateError):
        demo._export(Path("run"), Path("labels.csv"), Path("x.patchct"), quick=False)
    out, err = capsys.readouterr()
    assert [line.split()[-1] for line in out.splitlines() if "int8" in line] == ["FAILED"]
    assert "int8: flips <= 3 %" in err


@pytest.mark.slow
def test_the_quick_demo_runs_every_step(run_cli, tmp_path):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    out = tmp_path / "demo"
    result = run_cli("demo", "--quick", "--out", out)
    assert "mAP" in result.stdout
    names = ("data/labels.csv", "digits.patchct", "tags.jsonl", "heatmaps.png")
    for name in names:
        assert str(out / name) in result.stdout

    with (out / "data/labels.csv").open(newline="") as file:
        val = [row["image"] for row in csv.DictReader(file) if row["split"] == "val"]
    lines = (out / "tags.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["path"] for row in rows] == [str(out / "data" / name) for name in val]
    for row in rows:
        assert {tag["label"] for tag in row["tags"]} <= set(DIGITS)
        scores = [tag["score"] for tag in row["tags"]]
        assert scores == sorted(scores, reverse=True)
        assert all(0.5 <= score <= 1 for score in scores)

    bundle = Bundle(out / "digits.patchct")
    bundle.verify()
    assert bundle.precisions() == ["fp32", "int8"]
    assert bundle.manifest.prompts[0].startswith("A handwritten digit ")
    picture = images.decode(out / "heatmaps.png")
    assert picture.shape[0] > 100
    assert picture.std() > 10
