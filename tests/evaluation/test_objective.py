"""The objective of a threshold, as text; and thresholds on known scores."""

from __future__ import annotations

import numpy as np
import pytest

from patchct_edge.errors import UserError
from patchct_edge.evaluation.objective import Objective


@pytest.mark.parametrize("text", ["f1", "precision=0.9", "recall=1", "recall=0.5"])
def test_an_objective_is_parsed_and_printed(text):
    assert str(Objective.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "f2",
        "f1=",
        "f1=0.5",
        "precision",
        "precision=",
        "precision=0",
        "recall=1.1",
        "recall=-1",
        "precision=nan",
        "recall=inf",
        "recall=high",
        "recall=0.5=0.5",
        "Precision=0.9",
    ],
)
def test_an_unknown_objective_is_refused(text):
    with pytest.raises(UserError, match=r"(?s)unknown objective.*precision=P or recall=R"):
        Objective.parse(text)


@pytest.mark.parametrize("text", ["f1", "precision=0.9", "recall=0.9"])
def test_a_label_without_positives_has_no_threshold(text):
    scores = np.linspace(0, 1, 20)
    assert np.isnan(Objective.parse(text).choose_threshold(scores, np.zeros(20, bool)))


def test_separable_scores_are_separated():
    scores, targets = np.linspace(0, 1, 21), np.arange(21) > 10
    threshold = Objective().choose_threshold(scores, targets)
    assert scores[10] < threshold <= scores[11]
