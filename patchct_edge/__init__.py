"""PatchCT Edge: multi-label image taggers, from labeled photos to compiled engines.

from patchct_edge import Tagger

with Tagger.open("x.patchct") as tagger:
    print(tagger.tag("photo.jpg"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from patchct_edge.version import __version__

if TYPE_CHECKING:
    from patchct_edge.bundle import Bundle as Bundle
    from patchct_edge.evaluation.calibrate import calibrate_bundle as calibrate_bundle
    from patchct_edge.evaluation.evaluate import evaluate_bundle as evaluate_bundle
    from patchct_edge.export.export import export_bundle as export_bundle
    from patchct_edge.runtime.tagging.tagger import Tagger as Tagger
    from patchct_edge.train.loop import train_model as train_model


__all__ = [
    "Bundle",
    "Tagger",
    "__version__",
    "calibrate_bundle",
    "evaluate_bundle",
    "export_bundle",
    "train_model",
]

# Imported on first use: `patchct --help` must not wait for NumPy, nor a device need PyTorch.
_MODULES = {
    "Bundle": "patchct_edge.bundle",
    "Tagger": "patchct_edge.runtime.tagging.tagger",
    "calibrate_bundle": "patchct_edge.evaluation.calibrate",
    "evaluate_bundle": "patchct_edge.evaluation.evaluate",
    "export_bundle": "patchct_edge.export.export",
    "train_model": "patchct_edge.train.loop",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
