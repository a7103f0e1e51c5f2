"""The comparison of two engines: its figures are those of the metrics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from noisy_engines import LABELS, NEUTRAL, N, make_candidate, make_predictions, make_reference

from patchct_edge.evaluation.comparison import MAX_CHANGED_PHOTOS, compare_predictions
from patchct_edge.metrics import mean_average_precision, tag_flips


@pytest.fixture(scope="module")
def reference():
    return make_reference()


def test_figures_are_those_of_the_metrics(reference):
    candidate = make_candidate(reference, 2, "shuffled")
    comparison = compare_predictions(reference, candidate, NEUTRAL, NEUTRAL)
    before, after = (
        mean_average_precision(predictions.logits, reference.targets)
        for predictions in (reference, candidate)
    )
    assert comparison.map_drop == pytest.approx(before - after)
    assert comparison.map_drop_low < comparison.map_drop < comparison.map_drop_high
    tags = [predictions.logits >= 0 for predictions in (reference, candidate)]
    assert comparison.flips == pytest.approx(tag_flips(*tags))
    flips = (tags[0] ^ tags[1]).sum(0)
    assert [label.flips for label in comparison.labels] == flips.tolist()
    assert [label.reference_tags for label in comparison.labels] == tags[0].sum(0).tolist()


def test_the_photos_that_changed_most_are_listed(reference):
    candidate = make_candidate(reference, 2, "shuffled")
    photos = compare_predictions(reference, candidate, NEUTRAL, NEUTRAL).photos
    flips = ((reference.logits >= 0) ^ (candidate.logits >= 0)).sum(1)
    assert len(photos) == MAX_CHANGED_PHOTOS == 10
    assert [flips[photo.index] for photo in photos] == sorted(flips)[::-1][:10]
    first = photos[0]
    assert first.path == f"{first.index}.jpg"
    assert first.true_labels == tuple(np.array(LABELS)[reference.targets[first.index]])


def test_images_that_one_engine_could_not_read_are_left_out(reference):
    rows = np.arange(N) != 7
    paths = tuple(path for path, keep in zip(reference.paths, rows, strict=True) if keep)
    shorter = make_predictions(reference.logits[rows], reference.targets[rows], paths)
    comparison = compare_predictions(reference, shorter, NEUTRAL, NEUTRAL)
    assert (comparison.map_drop, comparison.flips, comparison.max_difference) == (0, 0, 0)


def test_other_labels_cannot_be_compared(reference):
    other = replace(reference, labels=LABELS[::-1])
    with pytest.raises(ValueError, match="the labels differ"):
        compare_predictions(reference, other, NEUTRAL, NEUTRAL)
