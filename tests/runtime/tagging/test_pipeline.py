"""Images to logits: order, batches, bounds, and what happens when something ends early."""

from __future__ import annotations

import itertools
import os
import re
import threading
from collections import deque

import numpy as np
import pytest

from patchct_edge.bundle import Preprocessing
from patchct_edge.runtime.engines.base import Engine
from patchct_edge.runtime.engines.fake import FakeEngine
from patchct_edge.runtime.tagging import pipeline
from patchct_edge.runtime.tagging.pipeline import score_images

RECIPE = Preprocessing(8)


class Counting(FakeEngine):
    """A fake that keeps the sizes of its batches, and fails at one of them where told to."""

    def __init__(self, fail_at=None):
        super().__init__(size=8, labels=3, patches=4)
        self.sizes, self.fail_at = [], fail_at

    def compute(self, images):
        self.sizes.append(len(images))
        if len(self.sizes) - 1 == self.fail_at:
            raise RuntimeError("out of memory")
        return super().compute(images)


class Overlapping(Engine):
    """Keeps up to three batches under way, and notes how many there were."""

    concurrency, best_batch = 3, 2

    def __init__(self):
        self.fake, self.running, self.most = FakeEngine(size=8, labels=3, patches=4), deque(), 0

    def submit(self, images):
        self.running.append(images.copy())
        self.most = max(self.most, len(self.running))

    def result(self):
        return self.fake.infer(self.running.popleft())

    def close(self):
        self.running.clear()


@pytest.fixture
def photos(colour_photo, tmp_path):
    """Write `count` photos, photo n with red 10 * n; those in `bad` cannot be decoded."""

    def write(count, bad=()):
        paths = [colour_photo(f"{n}.png", (10 * n, 0, 255)) for n in range(count)]
        for n in bad:
            paths[n].write_bytes(b"no image")
        return paths

    return write


def check(found, paths, bad):
    """Every path has its own logits, or its error."""
    assert [scored.path for scored in found] == paths
    for n, (path, logits, error, _) in enumerate(found):
        if n in bad:
            assert logits is None
            assert path.name in str(error)
        else:
            assert error is None
            np.testing.assert_allclose(logits, [80 * n / 255 - 4, -4, 4], atol=1e-5)


@pytest.mark.parametrize("bad", [(), (0,), (3, 4, 5), (2, 9), range(9), range(10)], ids=str)
@pytest.mark.parametrize("batch", [1, 3, 10, 64, None])
def test_every_image_has_its_row_in_order(photos, bad, batch):
    paths, engine = photos(10, bad), Counting()
    check(list(score_images(paths, engine, RECIPE, batch=batch)), paths, bad)
    assert sum(engine.sizes) == 10 - len(bad)
    assert all(1 <= size <= (batch or engine.best_batch) for size in engine.sizes)


def test_batches_are_full_but_the_last(photos):
    engine = Counting()
    list(score_images(photos(10), engine, RECIPE, batch=4))
    assert engine.sizes == [4, 4, 2]


def test_no_images_at_all():
    engine = Counting()
    assert list(score_images([], engine, RECIPE)) == []
    assert engine.sizes == []


@pytest.mark.parametrize("bad", [(), (0, 1, 5), (2, 3, 4, 5, 6, 7)], ids=str)
def test_batches_overlap_and_results_stay_with_their_paths(photos, bad):
    paths, engine = photos(20, bad), Overlapping()
    check(list(score_images(paths, engine, RECIPE)), paths, bad)
    assert engine.most >= engine.concurrency


@pytest.mark.parametrize("kind", [Counting, Overlapping])
@pytest.mark.parametrize("batch", [1, 4])
def test_what_is_read_ahead_is_bounded(photos, kind, batch):
    (path,), engine = photos(1), kind()
    taken = []

    def source():
        while True:
            taken.append(path)
            yield path

    rows = score_images(source(), engine, RECIPE, batch=batch)
    bound = (engine.concurrency + 3) * batch + (os.cpu_count() or 1)
    for consumed in range(1, 200):
        next(rows)
        assert len(taken) - consumed <= bound
    rows.close()


@pytest.mark.parametrize("kind", [Counting, Overlapping])
def test_ending_early_frees_the_threads_and_the_engine(photos, kind):
    (path,), engine = photos(1), kind()
    rows = score_images(itertools.repeat(path), engine, RECIPE, batch=2)
    next(rows)
    rows.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]
    white = np.full((1, 8, 8, 3), 255, np.uint8)
    np.testing.assert_array_equal(engine.infer(white).logits, [[4, 4, 4]])


def test_a_source_that_fails_leaves_nothing_in_the_engine(photos):
    def source():
        yield from paths
        raise OSError("no more")

    paths, engine = photos(9), Overlapping()
    with pytest.raises(OSError, match="no more"):
        list(score_images(source(), engine, RECIPE))
    assert not engine.running


def test_a_failure_that_is_kept_keeps_no_threads(photos):
    """An exception holds its frames, and with them what only the garbage collector would end."""
    with pytest.raises(RuntimeError) as caught:
        list(score_images(photos(9), Counting(fail_at=0), RECIPE, batch=2))
    assert caught.tb
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


@pytest.mark.parametrize("fail_at", [0, 2])
def test_an_exception_of_the_engine_comes_through(photos, fail_at):
    with pytest.raises(RuntimeError, match="out of memory"):
        list(score_images(photos(9), Counting(fail_at), RECIPE, batch=2))


def test_a_file_that_takes_too_long_is_given_up(photos, tmp_path, monkeypatch):
    """A pipe that is named is opened, and nobody ever writes into it."""
    monkeypatch.setattr(pipeline, "PATIENCE", 0.3)
    os.mkfifo(tmp_path / "pipe.jpg")
    before, after = photos(2)
    found = list(score_images([before, tmp_path / "pipe.jpg", after], Counting(), RECIPE))
    assert [scored.error is None for scored in found] == [True, False, True]
    assert re.search(r"given up after 0\.3 s: .*pipe\.jpg", str(found[1].error))
    (stuck,) = (t for t in threading.enumerate() if t.name == "decode")
    os.close(os.open(tmp_path / "pipe.jpg", os.O_WRONLY))  # and now someone does
    stuck.join(10)
    assert not stuck.is_alive()


@pytest.mark.parametrize("batch", [1, 3, 10])
def test_each_image_has_its_own_similarity(photos, batch):
    for n, scored in enumerate(
        score_images(photos(5, bad=(1, 4)), Counting(), RECIPE, batch=batch)
    ):
        if n in (1, 4):
            assert scored.similarity is None
        else:
            expected = np.repeat([[10 * n / 255], [0], [1]], 4, axis=1)
            np.testing.assert_allclose(scored.similarity, expected, atol=1e-5)


def test_an_engine_without_similarity_gives_none(photos):
    class Without(Counting):
        def compute(self, images):
            return super().compute(images)._replace(similarity=None)

    found = list(score_images(photos(3), Without(), RECIPE, batch=2))
    assert [scored.similarity for scored in found] == [None] * 3
    check(found, [scored.path for scored in found], ())
