"""Scoring images: order, batches, bounded memory, and an early end."""

from __future__ import annotations

import itertools
import os
import re
import threading
from collections import deque
from typing import Any

import numpy as np
import pytest

from patchct_edge.bundle import Preprocessing
from patchct_edge.parallel import count_workers
from patchct_edge.runtime.engines.base import Engine
from patchct_edge.runtime.engines.fake import FakeEngine
from patchct_edge.runtime.tagging import pipeline
from patchct_edge.runtime.tagging.pipeline import score_images

PREPROCESSING = Preprocessing(8)


class CountingEngine(FakeEngine):
    """A fake that records its batch sizes and can fail at one batch."""

    def __init__(self, fail_at=None):
        super().__init__(size=8, label_count=3, patch_count=4)
        self.batch_sizes, self.fail_at = [], fail_at

    def compute(self, images):
        self.batch_sizes.append(len(images))
        if len(self.batch_sizes) - 1 == self.fail_at:
            raise RuntimeError("out of memory")
        return super().compute(images)


class OverlappingEngine(Engine):
    """Keeps up to three batches in flight, and records the largest number."""

    concurrency, best_batch = 3, 2

    def __init__(self):
        self.fake = FakeEngine(size=8, label_count=3, patch_count=4)
        self.in_flight: deque[Any] = deque()
        self.max_in_flight = 0

    def submit(self, images):
        self.in_flight.append(images.copy())
        self.max_in_flight = max(self.max_in_flight, len(self.in_flight))

    def result(self):
        return self.fake.infer(self.in_flight.popleft())

    def close(self):
        self.in_flight.clear()


@pytest.fixture
def photos(color_photo, tmp_path):
    """Return a function that writes photos, photo n with red 10 * n, some of them damaged."""

    def write(count, damaged=()):
        paths = [color_photo(f"{n}.png", (10 * n, 0, 255)) for n in range(count)]
        for n in damaged:
            paths[n].write_bytes(b"not an image")
        return paths

    return write


def assert_scored(results, paths, damaged):
    """Assert that every path has its own logits, or its error."""
    assert [result.path for result in results] == paths
    for n, (path, logits, error, _) in enumerate(results):
        if n in damaged:
            assert logits is None
            assert path.name in str(error)
        else:
            assert error is None
            np.testing.assert_allclose(logits, [80 * n / 255 - 4, -4, 4], atol=1e-5)


def decode_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.mark.parametrize("damaged", [(), (0,), (3, 4, 5), (2, 9), range(9), range(10)], ids=str)
@pytest.mark.parametrize("batch", [1, 3, 10, 64, None])
def test_every_image_has_its_result_in_order(photos, damaged, batch):
    paths, engine = photos(10, damaged), CountingEngine()
    assert_scored(list(score_images(paths, engine, PREPROCESSING, batch=batch)), paths, damaged)
    assert sum(engine.batch_sizes) == 10 - len(damaged)
    assert all(1 <= size <= (batch or engine.best_batch) for size in engine.batch_sizes)


def test_all_batches_but_the_last_are_full(photos):
    engine = CountingEngine()
    list(score_images(photos(10), engine, PREPROCESSING, batch=4))
    assert engine.batch_sizes == [4, 4, 2]


def test_no_images_give_no_results():
    engine = CountingEngine()
    assert list(score_images([], engine, PREPROCESSING)) == []
    assert engine.batch_sizes == []


@pytest.mark.parametrize("damaged", [(), (0, 1, 5), (2, 3, 4, 5, 6, 7)], ids=str)
def test_batches_overlap_and_results_stay_with_their_paths(photos, damaged):
    paths, engine = photos(20, damaged), OverlappingEngine()
    assert_scored(list(score_images(paths, engine, PREPROCESSING)), paths, damaged)
    assert engine.max_in_flight >= engine.concurrency


@pytest.mark.parametrize("engine_class", [CountingEngine, OverlappingEngine])
@pytest.mark.parametrize("batch", [1, 4])
def test_reading_ahead_is_bounded(photos, engine_class, batch):
    (path,), engine = photos(1), engine_class()
    taken_paths = []

    def source():
        while True:
            taken_paths.append(path)
            yield path

    results = score_images(source(), engine, PREPROCESSING, batch=batch)
    bound = (engine.concurrency + 3) * batch + count_workers()
    for consumed in range(1, 200):
        next(results)
        assert len(taken_paths) - consumed <= bound
    results.close()


@pytest.mark.parametrize("engine_class", [CountingEngine, OverlappingEngine])
def test_ending_early_frees_the_threads_and_the_engine(photos, engine_class):
    (path,), engine = photos(1), engine_class()
    results = score_images(itertools.repeat(path), engine, PREPROCESSING, batch=2)
    next(results)
    results.close()
    assert not decode_threads()
    white = np.full((1, 8, 8, 3), 255, np.uint8)
    np.testing.assert_array_equal(engine.infer(white).logits, [[4, 4, 4]])


def test_a_source_that_fails_leaves_nothing_in_the_engine(photos):
    def source():
        yield from paths
        raise OSError("no more")

    paths, engine = photos(9), OverlappingEngine()
    with pytest.raises(OSError, match="no more"):
        list(score_images(source(), engine, PREPROCESSING))
    assert not engine.in_flight


def test_a_stored_exception_keeps_no_threads_alive(photos):
    """An exception holds its frames, so a thread must not end only when they are collected."""
    with pytest.raises(RuntimeError) as caught:
        list(score_images(photos(9), CountingEngine(fail_at=0), PREPROCESSING, batch=2))
    assert caught.tb
    assert not decode_threads()


@pytest.mark.parametrize("fail_at", [0, 2])
def test_an_exception_of_the_engine_is_raised(photos, fail_at):
    with pytest.raises(RuntimeError, match="out of memory"):
        list(score_images(photos(9), CountingEngine(fail_at), PREPROCESSING, batch=2))


def test_a_file_that_takes_too_long_gives_an_error(photos, tmp_path, monkeypatch):
    """Opening a named pipe blocks while nobody writes into it."""
    monkeypatch.setattr(pipeline, "IMAGE_TIMEOUT_S", 0.3)
    os.mkfifo(tmp_path / "pipe.jpg")
    first, last = photos(2)
    results = list(
        score_images([first, tmp_path / "pipe.jpg", last], CountingEngine(), PREPROCESSING)
    )
    assert [result.error is None for result in results] == [True, False, True]
    assert re.search(r"gave up reading .*pipe\.jpg after 0\.3 s", str(results[1].error))
    (stuck,) = decode_threads()
    os.close(os.open(tmp_path / "pipe.jpg", os.O_WRONLY))  # opens it for writing
    stuck.join(10)
    assert not stuck.is_alive()


@pytest.mark.parametrize("batch", [1, 3, 10])
def test_each_image_has_its_own_similarity(photos, batch):
    for n, scored in enumerate(
        score_images(photos(5, damaged=(1, 4)), CountingEngine(), PREPROCESSING, batch=batch)
    ):
        if n in (1, 4):
            assert scored.similarity is None
        else:
            expected = np.repeat([[10 * n / 255], [0], [1]], 4, axis=1)
            assert scored.similarity is not None
            np.testing.assert_allclose(scored.similarity, expected, atol=1e-5)


def test_an_engine_without_similarity_gives_none(photos):
    class LogitsEngine(CountingEngine):
        def compute(self, images):
            return super().compute(images)._replace(similarity=None)

    results = list(score_images(photos(3), LogitsEngine(), PREPROCESSING, batch=2))
    assert [result.similarity for result in results] == [None] * 3
    assert_scored(results, [result.path for result in results], ())
