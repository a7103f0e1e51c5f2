"""Hooks of the documentation site: formulas become MathML when it is built.

No page then loads a script for them from elsewhere.
"""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(page_html: str, **_: Any) -> str:
    """Turn every formula of a page into MathML."""
    return FORMULA.sub(formula_to_mathml, page_html)


def formula_to_mathml(match: re.Match[str]) -> str:
    """Return the MathML of one formula; `\\[...\\]` stands on a line of its own."""
    formula = html.unescape(match[3])
    if match[2] == "(":
        return str(convert(formula, display="inline"))
    return f'<div class="formula">{convert(formula, display="block")}</div>'
