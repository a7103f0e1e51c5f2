"""patchct report: the page in a real browser, the figures beside it, gates, two models, merging."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from patchct_edge import images
from patchct_edge.profiling import latency
from patchct_edge.profiling.tegrastats import DeviceStats, Power
from patchct_edge.report import engine_report

pytest.importorskip("matplotlib")
SCRIPT = "<script>document.title='hacked'</script>"
COLOURS = {"red": (220, 20, 20), SCRIPT: (20, 220, 20), "$x^2$ & blue": (20, 20, 220)}


@pytest.fixture(scope="module", autouse=True)
def brief():
    """Time few photos: the figures mean nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("WARM_UP", 2), ("SAMPLES", 12), ("SWEEP_SECONDS", 0.02)):
            patch.setattr(latency, name, value)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos of plain colours, in turn, as a CSV with boxes; one file has a script for a name."""
    folder = tmp_path_factory.mktemp("photos")
    rng, lines = np.random.default_rng(0), ["image,labels"]
    for n in range(45):
        label = list(COLOURS)[n % 3]
        name = f"{n}<i>.png" if n == 7 else f"{n}.png"
        noise = rng.integers(-20, 20, (8, 8, 3))
        images.save((COLOURS[label] + noise).clip(0, 255).astype(np.uint8), folder / name)
        lines.append(f"{name},{label}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    boxes = ("0.png,red,0,0,1,1,0", "3.png,red,0,0,1,1,0", "6.png,red,0,0,0.1,0.1,1")
    header = "image,label,xmin,ymin,xmax,ymax,difficult"
    (folder / "boxes.csv").write_text("\n".join((header, *boxes)) + "\n", encoding="utf-8")
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def bundle(write_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    return write_bundle(folder / "x.patchct", ("fp32", "int8"), labels=tuple(COLOURS))


@pytest.fixture(scope="module")
def page(run_cli, bundle, photos, tmp_path_factory):
    target = tmp_path_factory.mktemp("report") / "report.html"
    words = ("report", bundle, photos, "-o", target, "--engine", "openvino")
    boxes = ("--boxes", photos.with_name("boxes.csv"))
    said = run_cli(*words, *boxes, "--max-latency", 60_000, "--max-memory", 60_000)
    return target, said


def test_the_verdict_is_told_and_every_figure_is_beside_the_page(page, bundle):
    target, said = page
    assert [line.split()[:2] for line in said.stdout.splitlines()] == [
        ["passed", name] for name in ("mAP:", "Tag", "Labels:", "Latency:", "Memory:")
    ]
    found = json.loads(target.with_suffix(".json").read_text("utf-8"))
    assert found["passed"]
    assert [each["engine"]["precision"] for each in found["engines"]] == ["int8", "fp32"]
    assert (found["candidate"], found["reference"]) == (0, 1)
    for each in found["engines"]:
        assert list(each["latency"]["stages"]) == [
            "read",
            "decode",
            "resize",
            "engine",
            "tags",
            "total",
        ]
        assert len(each["latency"]["samples"]) == 12
        assert each["accuracy"]["map"] == 1
        assert each["cold_start"]["peak_mb"] > 10
    assert found["engines"][0]["change"]["flips"] == 0
    left = {"engine": "openvino", "precision": "fp16", "reason": "the bundle has no fp16 graph"}
    assert found["left_out"] == [left]
    assert "<li>fp16 openvino: the bundle has no fp16 graph</li>" in target.read_text("utf-8")
    assert found["data"]["images"] == 45
    assert "patchct" in found["command"]


def test_the_pointing_game_is_played_by_every_engine(page):
    target, _ = page
    for each in json.loads(target.with_suffix(".json").read_text("utf-8"))["engines"]:
        game = each["pointing"]
        ordinary = {"cases": 2, "pointing": 1, "energy": pytest.approx(1), "centre": 1}
        assert game["ordinary"] == game["labels"]["red"] == ordinary
        assert (game["low"], game["high"]) == (1, 1)
        assert (game["difficult"]["cases"], game["difficult"]["pointing"]) == (1, 0)
        assert game["labels"][SCRIPT]["pointing"] is None
    assert "Where the maps point" in target.read_text("utf-8")


@pytest.mark.parametrize("words", [(), ("--no-photos",)], ids=["photos", "none"])
def test_the_changed_photos_are_shown_or_only_named(run_cli, bundle, photos, tmp_path, words):
    """A model beside itself: nothing changes, so the first photos stand there."""
    target = tmp_path / "report.html"
    run_cli("report", bundle, bundle, photos, "-o", target, "--engine", "fake", *words)
    text = target.read_text("utf-8")
    assert "mAP does not change; 95 % interval of the difference +0.00..+0.00" in text
    assert "only the thresholds can differ" in text
    assert ("data:image" in text) == (not words)
    assert ">0.png</div>" in text


def test_temperature_and_power_are_told_where_they_were_measured(
    run_cli, page, bundle, photos, tmp_path, monkeypatch
):
    board = DeviceStats({"cpu": 40.0, "tj": 51.25}, {"VDD_IN": Power(8.5, 12.0)})
    monkeypatch.setattr(engine_report, "record_device_stats", lambda work: (work(), board))
    target = tmp_path / "report.html"
    words = ("report", bundle, photos, "-o", target, "--engine", "fake", "--precision", "fp32")
    assert "nothing was judged" in run_cli(*words).stderr
    assert "<h2>Nothing was judged</h2>" in target.read_text("utf-8")
    found = json.loads(target.with_suffix(".json").read_text("utf-8"))["engines"][0]["board"]
    assert found["temperature"]["tj"] == 51.25
    assert found["power"] == {"VDD_IN": {"mean": 8.5, "max": 12.0}}
    text = target.read_text("utf-8")
    assert "51.2 °C (tj)" in text
    assert "VDD_IN took 8.5 W on average, 12.0 W at most" in text
    assert "Temperature and power: not measured." in page[0].read_text("utf-8")


BROWSE = """
import json, sys
from playwright.sync_api import sync_playwright
chromium, url, width, scheme, paper = sys.argv[1:]
told, asked = [], []
with sync_playwright() as run:
    browser = run.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    tab = browser.new_page(viewport={"width": int(width), "height": 800}, color_scheme=scheme)
    tab.on("console", lambda message: told.append(message.text))
    tab.on("pageerror", lambda error: told.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(url)
    title, wide = tab.title(), tab.evaluate("document.documentElement.scrollWidth")
    table = tab.locator("table.sortable").nth(1)
    orders = [table.locator("tbody tr th").all_text_contents()]
    for _ in range(2):
        table.locator("thead th").first.click()
        orders.append(table.locator("tbody tr th").all_text_contents())
    tab.set_viewport_size({"width": int(paper), "height": 1000})
    tab.emulate_media(media="print")
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    widths = "Math.max(...Array.from(document.querySelectorAll('table'), t => t.offsetWidth))"
    widest = tab.evaluate(widths)
    browser.close()
print(json.dumps([title, wide, orders, told, asked, ground, widest]))
"""
PAPER = 688  # CSS px between the margins of A4


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (390, "light")])
def test_the_page_opens_in_a_browser(page, width, scheme):
    """No error, no request, nothing wider than screen or paper, no text that became a script."""
    chromium = shutil.which("chromium") or pytest.skip("no chromium here")
    pytest.importorskip("playwright")
    url = page[0].as_uri()
    words = [sys.executable, "-c", BROWSE, chromium, url, str(width), scheme, str(PAPER)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    title, wide, orders, told, asked, ground, widest = json.loads(done.stdout)
    assert title == "x.patchct: calibration report"
    assert wide <= width
    assert (ground, widest <= PAPER) == ("rgb(255, 255, 255)", True)
    assert orders[0] == list(COLOURS)
    assert sorted(orders[1]) == sorted(COLOURS)
    assert orders[2] == orders[1][::-1]
    assert told == []
    assert [each for each in asked if not each.startswith("data:")] == [url]


@pytest.mark.parametrize(
    "limit", [("--max-latency", 0.0001), ("--max-memory", 1), ("--max-map-drop", 0)], ids=str
)
def test_a_gate_that_fails_is_exit_code_4(run_cli, write_bundle, bundle, photos, tmp_path, limit):
    """Two models: the new one takes red for green and green for red."""
    new = write_bundle(
        tmp_path / "new.patchct", labels=tuple(COLOURS), weights=np.eye(3)[[1, 0, 2]]
    )
    models = (bundle, new) if limit[0] == "--max-map-drop" else (bundle,)
    target = tmp_path / "report.html"
    words = ("report", *models, photos, "-o", target, "--engine", "openvino", *limit)
    said = run_cli(*words, "--precision", "fp32", code=4)
    assert "FAILED" in said.stdout
    found = json.loads(target.with_suffix(".json").read_text("utf-8"))
    assert not found["passed"]
    assert found["engines"][0]["pointing"] is None
    assert "Where the maps point" not in target.read_text("utf-8")
    if len(models) == 2:
        assert "Damaged: red (AP falls" in said.stdout


def test_reports_of_several_devices_stand_side_by_side(run_cli, page, tmp_path):
    other = tmp_path / "other.json"
    shutil.copy(page[0].with_suffix(".json"), other)
    said = run_cli("report", "--merge", page[0].with_suffix(".json"), other).stdout
    rows = [line.split() for line in said.splitlines()]
    assert [row[0] for row in rows if row and row[0] in ("report", "other")] == [
        "report",
        "report",
        "report",
        "other",
        "other",
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["{bundle}"], ["a report is of one bundle or two"]),
        (["{bundle}", "{photos}", "-o", "report.pdf"], ["a report is a page", ".html"]),
        (["{bundle}", "{photos}", "-o", "nowhere/r.html"], ["cannot write", "mkdir -p nowhere"]),
        (["{bundle}", "{photos}", "-o", "{bundle}/r.html"], ["a path inside a bundle"]),
        (["{bundle}", "{photos}", "--max-flips", "101"], ["--max-flips"]),
        (["--merge", "{photos}"], ["is no report"]),
        (["{bundle}", "{tiny}", "{photos}"], ["not the same labels"]),
    ],
    ids=str,
)
def test_wrong_usage_is_told(run_cli, bundle, tiny_bundle, photos, words, expected):
    places = {"bundle": bundle, "photos": photos, "tiny": tiny_bundle}
    said = run_cli("report", *(word.format(**places) for word in words), code=2).stderr
    assert all(text in said for text in expected)
    assert not Path("report.pdf").exists()
