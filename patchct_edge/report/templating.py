"""The pages of this package: jinja2 with all text escaped, imported only here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchct_edge.errors import MissingExtra

if TYPE_CHECKING:
    from jinja2 import Environment


def environment() -> Environment:
    """Return what makes pages of the templates beside this file.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise MissingExtra("jinja2", "report") from None
    return Environment(
        loader=PackageLoader("patchct_edge.report"), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=StrictUndefined,
    )  # fmt: skip
