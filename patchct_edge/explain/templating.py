"""jinja2 for the HTML pages: the only import of it, with all text escaped."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.errors import MissingLibraryError

if TYPE_CHECKING:
    from jinja2 import Environment


def load_templates(package: str) -> Environment:
    """Load the templates of a package, with a filter `data_uri` that embeds an RGB image.

    Raises:
        MissingLibraryError: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise MissingLibraryError("jinja2") from None
    templates = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters["data_uri"] = _encode_data_uri
    return templates


def _encode_data_uri(pixels: RGB) -> str:
    """Return an image as a JPEG in a `data:` address."""
    return "data:image/jpeg;base64," + base64.b64encode(images.encode(pixels, "JPEG")).decode()
