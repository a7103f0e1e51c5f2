"""The version of this package: written here and nowhere else."""

from __future__ import annotations

__version__ = "0.2.0"
