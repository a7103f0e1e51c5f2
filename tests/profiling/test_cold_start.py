"""A process of its own that tags: that it runs, and what is said when it does not."""

from __future__ import annotations

import pytest

from patchct_edge.bundle import Bundle
from patchct_edge.errors import EngineError
from patchct_edge.profiling.cold_start import measure_cold_start
from patchct_edge.runtime.engines.select import open_engine

pytest.importorskip("openvino")


@pytest.fixture
def record(tiny_bundle):
    with open_engine(Bundle(tiny_bundle), precision="fp32") as engine:
        return engine.record


@pytest.fixture
def photo(colour_photo):
    return colour_photo("a.png", (200, 20, 20), {})


def test_the_steps_add_up_to_the_first_tags(tiny_bundle, record, photo):
    found = measure_cold_start(tiny_bundle, record, [photo])
    steps = (found.starting, found.opening, found.first_inference)
    assert all(seconds > 0 for seconds in steps)
    assert found.first_tags == pytest.approx(sum(steps))
    assert 20 < found.peak_mb < 2000


def test_its_memory_is_its_own_not_its_parents(tiny_bundle, record, photo):
    ballast = bytearray(b"x") * (600 << 20)
    found = measure_cold_start(tiny_bundle, record, [photo])
    assert found.peak_mb < len(ballast) / (1 << 20)


def test_a_process_that_fails_is_named_with_its_last_line(tiny_bundle, record, tmp_path):
    with pytest.raises(EngineError, match="a new process could not tag") as caught:
        measure_cold_start(tiny_bundle, record, [tmp_path / "none.png"])
    assert "none.png" in str(caught.value)
