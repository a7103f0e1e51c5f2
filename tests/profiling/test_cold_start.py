"""The cold start: its times, its memory, and the error where the process fails."""

from __future__ import annotations

import pytest

from patchct_edge.bundle import Bundle
from patchct_edge.errors import EngineError
from patchct_edge.profiling import cold_start as cold_start_module
from patchct_edge.profiling.cold_start import measure_cold_start
from patchct_edge.runtime.engines.select import EngineRequest, open_engine

pytest.importorskip("openvino")


@pytest.fixture
def record(tiny_bundle):
    with open_engine(Bundle(tiny_bundle), EngineRequest(precision="fp32")) as engine:
        return engine.record


@pytest.fixture
def photo(color_photo):
    return color_photo("a.png", (200, 20, 20), {})


def test_the_steps_add_up_to_the_first_tags(tiny_bundle, record, photo):
    cold_start = measure_cold_start(tiny_bundle, record, [photo])
    steps = (cold_start.import_s, cold_start.load_s, cold_start.first_inference_s)
    assert all(seconds > 0 for seconds in steps)
    assert cold_start.first_tags_s == pytest.approx(sum(steps))
    assert 20 < cold_start.peak_mb < 2000


def test_the_peak_memory_is_not_that_of_the_parent_process(tiny_bundle, record, photo):
    ballast = bytearray(b"x") * (600 << 20)
    cold_start = measure_cold_start(tiny_bundle, record, [photo])
    assert cold_start.peak_mb < len(ballast) / (1 << 20)


def test_without_a_proc_file_system_psutil_measures_the_memory(tmp_path, monkeypatch):
    psutil = pytest.importorskip("psutil")
    monkeypatch.setattr(cold_start_module, "PROCESS_STATUS", tmp_path / "none")
    now_mb = psutil.Process().memory_info().rss / 2**20
    assert cold_start_module.measure_peak_mb() == pytest.approx(now_mb, rel=0.2)


def test_a_process_that_fails_is_reported_with_its_last_line(tiny_bundle, record, tmp_path):
    with pytest.raises(EngineError, match="a new process could not tag") as caught:
        measure_cold_start(tiny_bundle, record, [tmp_path / "none.png"])
    assert "none.png" in str(caught.value)
