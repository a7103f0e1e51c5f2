"""A short run of the fuzzing: damaged files are read or refused with an error that we mean."""

from __future__ import annotations

import fuzzing
import pytest


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about the damage
@pytest.mark.parametrize("target", fuzzing.TARGETS)
def test_damage_is_read_or_refused(target, tmp_path):
    seeds = fuzzing.TARGETS[target][0]()
    ends = {fuzzing.tried(target, n, seeds, tmp_path) for n in range(400)}
    assert "read" in ends
    assert len(ends) > 1


def test_an_input_is_always_the_same():
    seeds = fuzzing.tables()
    assert [fuzzing.mutated(seeds, n) for n in range(50)] == [
        fuzzing.mutated(seeds, n) for n in range(50)
    ]
