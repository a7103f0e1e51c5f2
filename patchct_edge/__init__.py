"""PatchCT Edge: multi-label image taggers, from labelled photos to compiled engines.

from patchct_edge import Tagger

with Tagger.open("x.patchct") as tagger:
    print(tagger.tag("photo.jpg"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from patchct_edge.runtime.tagging.tagger import Tagger as Tagger

__version__ = "0.2.0"
__all__ = ["Tagger", "__version__"]


def __getattr__(name: str) -> Any:
    # Deferred, so that `patchct --help` does not wait for NumPy.
    if name == "Tagger":
        from patchct_edge.runtime.tagging.tagger import Tagger

        return Tagger
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
