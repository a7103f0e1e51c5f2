"""The gates: how far an export stage or an engine may fall behind its reference.

Every limit and its default stands here and nowhere else. Differences of scores are 0..1, mAP and AP
are in points of 0..100, shares are percentages.
"""

from __future__ import annotations

from dataclasses import dataclass

# A label is damaged if it exceeds one of these limits.
MAX_LABEL_AP_DROP = 5.0  # points, at the near end of the 95% interval
MAX_LABEL_FLIPS = 25.0  # percent of the tags that the reference gives the label
MIN_LABEL_FLIPS = 5  # tag flips: fewer prove nothing
LABEL_SPREAD_RANGE = (0.5, 2.0)  # standard deviation of the logits over the reference's


@dataclass(frozen=True)
class Gates:
    """The limits of an export and of a report.

    Args:
        max_fp32_difference: of a score between PyTorch and the FP32 graph, 0..1.
        max_fp16_difference: of a score between the FP32 and the FP16 graph, 0..1.
        max_map_drop: of mAP against the reference, in points of 0..100.
        max_flips: tag flips against the reference, in percent; see `metrics.tag_flips`.
        max_latency_ms: 95th percentile of one photo, from file to tags; None: no limit.
        max_memory_mb: peak of a process that tags, in MiB; None: no limit.
    """

    max_fp32_difference: float = 1e-4
    max_fp16_difference: float = 1e-2
    max_map_drop: float = 0.5
    max_flips: float = 3.0
    max_latency_ms: float | None = None
    max_memory_mb: float | None = None


@dataclass(frozen=True)
class GateResult:
    """Whether one gate passed, and the measured figure beside its limit in a sentence."""

    name: str
    passed: bool
    text: str
