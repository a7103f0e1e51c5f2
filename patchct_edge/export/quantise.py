"""INT8 graphs by NNCF: symmetric QDQ pairs around the encoder's matrix products."""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path

import nncf
import onnx

from patchct_edge.export.graph import head_nodes, patch_embedding_nodes
from patchct_edge.runtime.engines.base import Images


def int8_from_fp32(source: Path, target: Path, calibration: Images) -> None:
    """Write the INT8 form of an FP32 graph, calibrated on uint8 (count, H, W, 3).

    The patch embedding is left out (quantising it costs tens of points of mAP), and so is the
    head; NNCF itself leaves softmax and LayerNorm.
    """
    graph = onnx.load(source)
    logging.getLogger("nncf").setLevel(logging.ERROR)
    kept = sorted(head_nodes(graph) | patch_embedding_nodes(graph))
    with contextlib.redirect_stdout(sys.stderr):  # it shows progress, and stdout is for results
        quantised = nncf.quantize(
            graph,
            nncf.Dataset(list(calibration), lambda image: {"image": image[None]}),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.PERFORMANCE,  # symmetric, as TensorRT wants it
            subset_size=len(calibration),
            ignored_scope=nncf.IgnoredScope(names=kept, validate=False),
        )
    onnx.save(quantised, target)
