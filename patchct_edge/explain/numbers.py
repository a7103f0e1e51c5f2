"""The grids of explained photos as numbers: JSON or a NumPy file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from patchct_edge.explain.maps import Explanation
from patchct_edge.files import write_atomically


def write_json(about: dict[str, Any], pictures: Iterable[Explanation], path: Path) -> None:
    """Write `about` with `photos`: for each its path, and its maps as of `LabelMap.to_json`."""
    photos = [{"path": str(p.path), "maps": [m.to_json() for m in p.maps]} for p in pictures]
    text = json.dumps({**about, "photos": photos}, ensure_ascii=False, allow_nan=False) + "\n"
    # UTF-8 refuses nothing but surrogates, of a path that is not UTF-8: here as JSON escapes.
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


def write_npy(columns: Sequence[int], pictures: Iterable[Explanation], path: Path) -> None:
    """Write the similarities as float32 (photos, labels, rows, columns of patches).

    Args:
        columns: the labels, as their places in the model.
    """
    file = BytesIO()
    np.save(file, np.stack([picture.similarity[list(columns)] for picture in pictures]))
    write_atomically(path, file.getvalue())
