"""What a bundle says of itself: labels, preprocessing, patch grid, stage records, hashes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from patchct_edge.bundle.preprocessing import Preprocessing

FORMAT = 1


@dataclass(frozen=True)
class Stage:
    """One export stage compared with the one before, on the same pictures.

    Score differences are of probabilities, 0..1; `flips` is `metrics.tag_flips`; `map` and its
    interval are of this stage, `map_drop` is against `against`, all None without labels.
    """

    name: str
    against: str
    engine: str
    images: int
    max_difference: float
    mean_difference: float
    flips: float
    map: float | None = None
    map_low: float | None = None
    map_high: float | None = None
    map_drop: float | None = None
    gate: str = ""
    passed: bool = True


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself. `grid` is (rows, columns) of patches; `tau` is a scalar."""

    labels: tuple[str, ...]
    prompts: tuple[str, ...]
    label_source: str
    preprocessing: Preprocessing
    tau: float
    grid: tuple[int, int]
    producer: str
    fingerprint: str = ""
    quantization_data: str | None = None
    stages: tuple[Stage, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "preprocessing": self.preprocessing.to_json()}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Manifest:
        """Read what `to_json` returned; a ValueError, KeyError or TypeError where it is damaged."""
        values = {f.name: found[f.name] for f in fields(cls)}
        for name, kind in (("labels", str), ("prompts", str), ("grid", int)):
            if not all(isinstance(value, kind) for value in values[name]):
                raise ValueError(f"{name} {values[name]}")
            values[name] = tuple(values[name])
        values["preprocessing"] = Preprocessing.from_json(values["preprocessing"])
        values["stages"] = tuple(Stage(**stage) for stage in values["stages"])
        manifest = cls(**values)
        if not 0 < len(manifest.labels) == len(manifest.prompts):
            raise ValueError(f"{len(manifest.labels)} labels, {len(manifest.prompts)} prompts")
        if len(manifest.grid) != 2 or min(manifest.grid) < 1 or not 0 < manifest.tau < math.inf:
            raise ValueError(f"grid {manifest.grid}, tau {manifest.tau}")
        return manifest
