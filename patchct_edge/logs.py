"""Log records: which recurring failures are worth a line, and the JSON form for services."""

from __future__ import annotations
