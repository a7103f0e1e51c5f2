"""Tags: labels of an image with their scores."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tag:
    """A label of an image with its score, 0..1."""

    label: str
    score: float
