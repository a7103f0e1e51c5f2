"""The pages of this package: jinja2 with all text escaped, imported only here; pictures in them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.errors import MissingLibraryError

if TYPE_CHECKING:
    from jinja2 import Environment


def template_environment(package: str) -> Environment:
    """Return what makes pages of the templates in a package.

    Raises:
        MissingLibraryError: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise MissingLibraryError("jinja2", "report") from None
    made = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.filters["data_uri"] = _data_uri
    return made


def _data_uri(pixels: RGB) -> str:
    """Return a picture as what stands in a page."""
    return "data:image/jpeg;base64," + base64.b64encode(images.encode(pixels, "JPEG")).decode()
