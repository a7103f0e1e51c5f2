"""patchct export: its table, its errors, and a gate that fails."""

from __future__ import annotations

import pytest

from patchct_edge.bundle import Bundle


def test_the_stages_and_gates_are_printed(export_cli):
    bundle, result = export_cli
    assert bundle.is_dir()
    table = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert table[0][:2] == ["stage", "against"]
    assert [row[:2] for row in table[2:]] == [
        ["graph", "model"],
        ["fp32", "graph"],
        ["fp16", "fp32"],
        ["int8", "fp32"],
        ["int8-fp16", "fp32"],
    ]
    assert {row[-1] for row in table[2:]} == {"passed"}
    for words in (
        "int8: comparing 40 images with 'fp32'",
        "graph, fp32: max difference <= 0.0001",
        "fp16: max difference <= 0.01",
        "int8, int8-fp16: mAP drop <= 5 points, flips <= 5%",
        f"wrote {bundle} (model {Bundle(bundle).manifest.fingerprint})",
    ):
        assert words in result.stderr


def test_a_failed_gate_shows_the_table_and_what_to_do(run_cli, trained_run, tmp_path):
    target = tmp_path / "x.patchct"
    command = ("export", trained_run, "--out", target, "--precision", "fp16")
    result = run_cli(*command, "--max-fp16-difference", 1e-9, code=4)
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.strip()}
    assert (rows["fp32"][-1], rows["fp16"][-1]) == ("passed", "FAILED")
    for words in (
        "error: gate failed: 'fp16'",
        "got:      'fp16': max difference",
        "expected: max difference <= 1e-09",
        f"The bundle is in {target}.failed",
        "export without it: --precision fp32,int8; or raise the limit: --max-fp16-difference",
    ):
        assert words in result.stderr
    assert not target.exists()
    failed = Bundle(tmp_path / "x.patchct.failed")
    assert [stage.name for stage in failed.failed_stages("fp16")] == ["fp16"]
    stdout = run_cli("show", failed.path, "--verify").stdout
    assert "FAILED" in stdout
    assert "openvino fp16: its gate failed at export (max difference <= 1e-09)" in stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--precision int8", ["INT8 needs photos", "fix:", "--quant-data DATA"]),
        ("--precision fp32,int9", ["unknown precision", "got:", "'int8'?"]),
        ("--quant-data nowhere.csv", ["no such dataset", "got:", "fix:"]),
    ],
)
def test_user_errors(run_cli, trained_run, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    command = ("export", trained_run, "--out", "x.patchct", *words.split())
    result = run_cli(*command, code=2)
    assert [part for part in expected if part not in result.stderr] == []
    assert not list(tmp_path.iterdir())


def test_a_name_without_the_suffix_of_a_bundle_is_refused(run_cli, trained_run, tmp_path):
    result = run_cli("export", trained_run, "--out", tmp_path / "x", "--precision", "fp32", code=2)
    assert "x.patchct" in result.stderr
    assert not list(tmp_path.iterdir())
