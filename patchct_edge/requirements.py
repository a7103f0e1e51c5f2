"""Install hints: the third-party packages of an optional feature, from this package's metadata.

A hint never says `patchct-edge[...]`: that name is not registered on the public index, and whoever
registered it would be installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

DISTRIBUTION = "patchct-edge"
# name, extras in brackets, version range, marker: the forms that a wheel's metadata has (PEP 508)
_REQUIREMENT = re.compile(r"([\w.-]+)\s*(?:\[(.*?)\])?\s*([^;\s]*)\s*(?:;(.*))?")
_EXTRA = re.compile(r"extra == ['\"]([\w.-]+)['\"]")


class Requirement(NamedTuple):
    """One line of the metadata; `extra` is "" for what every installation has."""

    name: str
    extras: tuple[str, ...]  # of `name`
    version_range: str
    extra: str

    def __str__(self) -> str:
        return f"{self.name}{self.version_range}"


def find_requirement(package: str) -> str:
    """Return a package with its version range, such as "av>=14"."""
    known = (str(r) for r in _read_requirements() if _normalize(r.name) == _normalize(package))
    return next(known, package)


def install_command(package: str) -> str:
    """Return the pip command for a missing package, and for all else that its extra still lacks.

    The extra is the first one that lists the package, in the order of pyproject.toml.
    """
    requirements = list(_read_requirements())
    extra = next((r.extra for r in requirements if _normalize(r.name) == _normalize(package)), "")
    lacking = [find_requirement(package)]
    if extra:
        lacking += [str(r) for r in _expand_extra(extra, requirements) if not _is_installed(r.name)]
    packages = " ".join(f"'{requirement}'" for requirement in dict.fromkeys(lacking))
    # The index serves a build of torch that may not be the one that fits the machine.
    note = " (choose the build of torch first, see the README)" if "'torch" in packages else ""
    return f"pip install {packages}{note}"


def _read_requirements() -> Iterator[Requirement]:
    """Yield the lines of this package's metadata, none where it is not installed."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        match = _REQUIREMENT.fullmatch(line)
        if match is None:
            continue
        name, extras, version_range, marker = match.groups(default="")
        extra = _EXTRA.search(marker)
        listed = tuple(part.strip() for part in extras.split(",") if part.strip())
        yield Requirement(name, listed, version_range, extra[1] if extra else "")


def _expand_extra(extra: str, requirements: list[Requirement]) -> Iterator[Requirement]:
    """Yield the third-party requirements of an extra, those of the extras it includes as well."""
    for requirement in requirements:
        if requirement.extra != extra:
            continue
        if _normalize(requirement.name) != DISTRIBUTION:
            yield requirement
            continue
        for included in requirement.extras:
            yield from _expand_extra(included, requirements)


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
