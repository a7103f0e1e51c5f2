"""Label maps as numbers: JSON or a NumPy file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from patchct_edge.explain.maps import Explanation
from patchct_edge.files import write_atomically


def write_json(header: dict[str, Any], explanations: Iterable[Explanation], path: Path) -> None:
    """Write the label maps of photos as one JSON object.

    Args:
        header: first fields of the object; `photos` follows, a list with the `path` of each photo
            and its `maps` (see `LabelMap.to_json`).
    """
    photos = [
        {"path": str(photo.path), "maps": [label_map.to_json() for label_map in photo.maps]}
        for photo in explanations
    ]
    text = json.dumps({**header, "photos": photos}, ensure_ascii=False, allow_nan=False) + "\n"
    # Only surrogates, from a path that is not UTF-8, cannot be encoded: they become JSON escapes.
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


def write_npy(
    label_indices: Sequence[int], explanations: Iterable[Explanation], path: Path
) -> None:
    """Write the similarities as float32 (photos, labels, rows, columns) of patches.

    Args:
        label_indices: the labels to write, as indices into the labels of the model.
    """
    indices = list(label_indices)
    file = BytesIO()
    np.save(file, np.stack([explanation.similarity[indices] for explanation in explanations]))
    write_atomically(path, file.getvalue())
