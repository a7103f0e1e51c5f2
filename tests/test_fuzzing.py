"""A short run of the fuzzing: damaged files are read, or refused with a user error."""

from __future__ import annotations

import fuzzing
import pytest


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the damage
@pytest.mark.parametrize("target", fuzzing.TARGETS)
def test_a_damaged_file_is_read_or_refused(target, tmp_path):
    seeds = fuzzing.TARGETS[target][0]()
    outcomes = {fuzzing.try_input(target, n, seeds, tmp_path) for n in range(400)}
    assert "read" in outcomes
    assert len(outcomes) > 1


def test_an_input_is_always_the_same():
    seeds = fuzzing.make_tables()
    assert [fuzzing.mutate(seeds, n) for n in range(50)] == [
        fuzzing.mutate(seeds, n) for n in range(50)
    ]
