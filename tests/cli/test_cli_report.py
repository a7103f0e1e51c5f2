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
COLORS = {"red": (220, 20, 20), SCRIPT: (20, 220, 20), "$x^2$ & blue": (20, 20, 220)}


@pytest.fixture(scope="module", autouse=True)
def time_few_photos():
    """Time few photos: the figures mean nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("WARM_UP_PHOTOS", 2),
            ("SAMPLE_PHOTOS", 12),
            ("SECONDS_PER_BATCH_SIZE", 0.02),
        ):
            patch.setattr(latency, name, value)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos of plain colors as a CSV, with boxes; a label is a script, a file name has markup."""
    folder = tmp_path_factory.mktemp("photos")
    rng, lines = np.random.default_rng(0), ["image,labels"]
    for n in range(45):
        label = list(COLORS)[n % 3]
        name = f"{n}<i>.png" if n == 7 else f"{n}.png"
        noise = rng.integers(-20, 20, (8, 8, 3))
        images.save((COLORS[label] + noise).clip(0, 255).astype(np.uint8), folder / name)
        lines.append(f"{name},{label}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    boxes = ("0.png,red,0,0,1,1,0", "3.png,red,0,0,1,1,0", "6.png,red,0,0,0.1,0.1,1")
    header = "image,label,xmin,ymin,xmax,ymax,difficult"
    (folder / "boxes.csv").write_text("\n".join((header, *boxes)) + "\n", encoding="utf-8")
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def bundle(write_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    return write_bundle(folder / "x.patchct", ("fp32", "int8"), labels=tuple(COLORS))


@pytest.fixture(scope="module")
def page(run_cli, bundle, photos, tmp_path_factory):
    target = tmp_path_factory.mktemp("report") / "report.html"
    words = ("report", bundle, photos, "-o", target, "--engine", "openvino")
    boxes = ("--boxes", photos.with_name("boxes.csv"))
    result = run_cli(*words, *boxes, "--max-latency", 60_000, "--max-memory", 60_000)
    return target, result


def test_the_gates_are_printed_and_every_figure_is_in_the_json(page):
    target, result = page
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["passed", name] for name in ("mAP:", "Tag", "Labels:", "Latency:", "Memory:")
    ]
    report = json.loads(target.with_suffix(".json").read_text("utf-8"))
    assert report["passed"]
    assert [engine["engine"]["precision"] for engine in report["engines"]] == ["int8", "fp32"]
    assert (report["candidate"], report["reference"]) == (0, 1)
    for engine in report["engines"]:
        assert list(engine["latency"]["stages"]) == [
            "read",
            "decode",
            "resize",
            "engine",
            "tags",
            "total",
        ]
        assert len(engine["latency"]["samples"]) == 12
        assert engine["accuracy"]["map"] == 1
        assert engine["cold_start"]["peak_mb"] > 10
        seconds = ("first_tags_s", "import_s", "load_s", "first_inference_s")
        assert all(engine["cold_start"][name] > 0 for name in seconds)
        assert engine["engine"]["compute_precision"]
    assert report["engines"][0]["change"]["flips"] == 0
    skipped = {"engine": "openvino", "precision": "fp16", "reason": "the bundle has no fp16 graph"}
    assert report["skipped"] == [skipped]
    assert "<li>fp16 openvino: the bundle has no fp16 graph</li>" in target.read_text("utf-8")
    assert report["dataset"]["images"] == 45
    assert report["reliability"]["labels"][0]["label"] == "red"
    assert report["reliability_error"] is None
    assert "patchct" in report["command"]


def test_the_pointing_game_is_played_by_every_engine(page):
    target, _ = page
    for engine in json.loads(target.with_suffix(".json").read_text("utf-8"))["engines"]:
        pointing = engine["pointing"]
        ordinary = {"cases": 2, "pointing": 1, "energy": pytest.approx(1), "center": 1}
        assert pointing["ordinary"] == pointing["labels"]["red"] == ordinary
        assert (pointing["low"], pointing["high"]) == (1, 1)
        assert (pointing["difficult"]["cases"], pointing["difficult"]["pointing"]) == (1, 0)
        assert pointing["labels"][SCRIPT]["pointing"] is None
    assert "Where the heat maps point" in target.read_text("utf-8")


@pytest.mark.parametrize("words", [(), ("--no-photos",)], ids=["photos", "none"])
def test_changed_photos_are_shown_or_only_named(run_cli, bundle, photos, tmp_path, words):
    """A model compared with itself: nothing changes, so the first photos are shown."""
    target = tmp_path / "report.html"
    run_cli("report", bundle, bundle, photos, "-o", target, "--engine", "fake", *words)
    text = target.read_text("utf-8")
    assert "mAP does not change; 95% interval of the difference +0.00..+0.00" in text
    assert "only the thresholds can differ" in text
    assert ("data:image" in text) == (not words)
    assert ">0.png</div>" in text


def test_temperature_and_power_are_shown_where_they_were_measured(
    run_cli, page, bundle, photos, tmp_path, monkeypatch
):
    stats = DeviceStats({"cpu": 40.0, "tj": 51.25}, {"VDD_IN": Power(8.5, 12.0)})
    monkeypatch.setattr(engine_report, "record_device_stats", lambda work: (work(), stats))
    target = tmp_path / "report.html"
    words = ("report", bundle, photos, "-o", target, "--engine", "fake", "--precision", "fp32")
    assert "no gate was checked" in run_cli(*words).stderr
    assert "<h2>No gate was checked</h2>" in target.read_text("utf-8")
    engine, *_ = json.loads(target.with_suffix(".json").read_text("utf-8"))["engines"]
    assert engine["device_stats"]["temperature"]["tj"] == 51.25
    assert engine["device_stats"]["power"] == {"VDD_IN": {"mean": 8.5, "max": 12.0}}
    text = target.read_text("utf-8")
    assert "51.2 °C (tj)" in text
    assert "VDD_IN took 8.5 W on average and 12.0 W at most" in text
    assert "Temperature and power were not measured." in page[0].read_text("utf-8")


BROWSE = """
import json, sys
from playwright.sync_api import sync_playwright
chromium, url, width, scheme, paper = sys.argv[1:]
messages, requests = [], []
with sync_playwright() as run:
    browser = run.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    tab = browser.new_page(viewport={"width": int(width), "height": 800}, color_scheme=scheme)
    tab.on("console", lambda message: messages.append(message.text))
    tab.on("pageerror", lambda error: messages.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(url)
    title, page_width = tab.title(), tab.evaluate("document.documentElement.scrollWidth")
    table = tab.locator("table.sortable").nth(1)
    label_orders = [table.locator("tbody tr th").all_text_contents()]
    for _ in range(2):
        table.locator("thead th").first.click()
        label_orders.append(table.locator("tbody tr th").all_text_contents())
    tab.set_viewport_size({"width": int(paper), "height": 1000})
    tab.emulate_media(media="print")
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    widths = "Math.max(...Array.from(document.querySelectorAll('table'), t => t.offsetWidth))"
    table_width = tab.evaluate(widths)
    browser.close()
print(json.dumps([title, page_width, label_orders, messages, requests, background, table_width]))
"""
PAPER_WIDTH = 688  # CSS px between the margins of A4


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (390, "light")])
def test_the_page_opens_in_a_browser(page, width, scheme):
    """No error, no request, nothing wider than screen or paper, and no label becomes a script."""
    chromium = shutil.which("chromium") or pytest.skip("chromium is not installed")
    pytest.importorskip("playwright")
    url = page[0].as_uri()
    words = [sys.executable, "-c", BROWSE, chromium, url, str(width), scheme, str(PAPER_WIDTH)]
    process = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    title, page_width, label_orders, messages, requests, background, table_width = json.loads(
        process.stdout
    )
    assert title == "x.patchct: report"
    assert page_width <= width
    assert (background, table_width <= PAPER_WIDTH) == ("rgb(255, 255, 255)", True)
    assert label_orders[0] == list(COLORS)
    assert sorted(label_orders[1]) == sorted(COLORS)
    assert label_orders[2] == label_orders[1][::-1]
    assert messages == []
    assert [request for request in requests if not request.startswith("data:")] == [url]


@pytest.mark.parametrize(
    "limit", [("--max-latency", 0.0001), ("--max-memory", 1), ("--max-map-drop", 0)], ids=str
)
def test_a_failed_gate_exits_with_4(run_cli, write_bundle, bundle, photos, tmp_path, limit):
    """Two models: the new one confuses red and green."""
    new = write_bundle(tmp_path / "new.patchct", labels=tuple(COLORS), weights=np.eye(3)[[1, 0, 2]])
    models = (bundle, new) if limit[0] == "--max-map-drop" else (bundle,)
    target = tmp_path / "report.html"
    words = ("report", *models, photos, "-o", target, "--engine", "openvino", *limit)
    result = run_cli(*words, "--precision", "fp32", code=4)
    assert "FAILED" in result.stdout
    report = json.loads(target.with_suffix(".json").read_text("utf-8"))
    assert not report["passed"]
    assert report["engines"][0]["pointing"] is None
    assert "Where the heat maps point" not in target.read_text("utf-8")
    if len(models) == 2:
        assert "Damaged: red (AP falls" in result.stdout


def test_reports_of_several_devices_are_merged_into_one_table(run_cli, page, tmp_path):
    other = tmp_path / "other.json"
    shutil.copy(page[0].with_suffix(".json"), other)
    table = run_cli("report", "--merge", page[0].with_suffix(".json"), other).stdout
    rows = [line.split() for line in table.splitlines()]
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
        (["{bundle}"], ["a report needs one or two bundles"]),
        (["{bundle}", "{photos}", "-o", "report.pdf"], ["a report is an HTML page", ".html"]),
        (["{bundle}", "{photos}", "-o", "nowhere/r.html"], ["cannot write", "mkdir -p nowhere"]),
        (["{bundle}", "{photos}", "-o", "{bundle}/r.html"], ["a path inside a bundle"]),
        (["{bundle}", "{photos}", "--max-flips", "101"], ["--max-flips"]),
        (["--merge", "{photos}"], ["is not a report"]),
        (["{bundle}", "{tiny}", "{photos}"], ["different labels"]),
    ],
    ids=str,
)
def test_wrong_usage_is_an_error(run_cli, bundle, tiny_bundle, photos, words, expected):
    places = {"bundle": bundle, "photos": photos, "tiny": tiny_bundle}
    message = run_cli("report", *(word.format(**places) for word in words), code=2).stderr
    assert all(text in message for text in expected)
    assert not Path("report.pdf").exists()
