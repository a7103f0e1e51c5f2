"""The array types of this package, each defined once."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.floating[Any]]  # of any width
Float32s: TypeAlias = npt.NDArray[np.float32]
Float64s: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.intp]
Bytes: TypeAlias = npt.NDArray[np.uint8]  # of any shape: a buffer, or one channel of an image
RGB: TypeAlias = npt.NDArray[np.uint8]  # (height, width, 3)
ImageBatch: TypeAlias = npt.NDArray[np.uint8]  # (B, height, width, 3) RGB
