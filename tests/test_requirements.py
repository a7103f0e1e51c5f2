"""Install hints: third-party packages and their ranges, from the package's metadata."""

from __future__ import annotations

from importlib import metadata

import pytest

from patchct_edge import requirements
from patchct_edge.errors import EngineError, MissingLibraryError
from patchct_edge.requirements import find_requirement, install_command

LINES = [
    "numpy>=1.26",
    'tomli; python_version < "3.11"',
    'torch>=2.7; extra == "train"',
    'safetensors>=0.5,<1; extra == "train"',
    'patchct-edge[onnxruntime,train]; extra == "export"',
    "onnxruntime>=1.20; extra == 'onnxruntime'",
    'onnx>=1.18; extra == "export"',
    'av>=14; extra == "stream"',
    'paho-mqtt>=2; extra == "stream"',
    'av>=14; extra == "video"',
]


@pytest.fixture
def installed(monkeypatch):
    """Names of the packages that are installed; a test may change it."""
    names = {"numpy", "tomli"}

    def version(name):
        if name not in names:
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(metadata, "requires", lambda name: LINES)
    monkeypatch.setattr(metadata, "version", version)
    return names


def test_the_rest_of_the_extra_is_named_too(installed):
    assert install_command("av") == "pip install 'av>=14' 'paho-mqtt>=2'"
    assert install_command("paho-mqtt") == "pip install 'paho-mqtt>=2' 'av>=14'"


def test_what_is_installed_is_not_named(installed):
    installed.add("paho-mqtt")
    assert install_command("av") == "pip install 'av>=14'"


def test_a_package_that_does_not_load_is_named_though_it_is_installed(installed):
    installed |= {"av", "paho-mqtt"}
    assert install_command("av") == "pip install 'av>=14'"


def test_the_packages_of_an_extra_within_an_extra_are_named(installed):
    installed.add("torch")
    assert install_command("onnx") == (
        "pip install 'onnx>=1.18' 'onnxruntime>=1.20' 'safetensors>=0.5,<1'"
    )


def test_torch_has_a_note_to_choose_its_build(installed):
    for package in ("torch", "onnx", "safetensors"):
        assert install_command(package).endswith(
            "(choose the build of torch first, see the README)"
        )
    assert "build" not in install_command("onnxruntime")


@pytest.mark.parametrize(
    ("package", "requirement"),
    [
        ("numpy", "numpy>=1.26"),
        ("Paho_MQTT", "paho-mqtt>=2"),
        ("tomli", "tomli"),
        ("tensorrt", "tensorrt"),
    ],
)
def test_a_requirement_has_its_range(installed, package, requirement):
    assert find_requirement(package) == requirement
    assert install_command(package).startswith(f"pip install '{requirement}'")


def test_without_metadata_the_bare_name_is_given(monkeypatch):
    def requires(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert install_command("av") == "pip install 'av'"


def test_every_line_of_the_metadata_is_read():
    lines = metadata.requires("patchct-edge")
    assert lines is not None
    assert len(list(requirements._read_requirements())) == len(lines)
    assert find_requirement("av").startswith("av>=")


def test_no_hint_names_this_package():
    for line in requirements._read_requirements():
        assert "patchct" not in install_command(line.name) or line.name == "patchct-edge"


def test_the_error_says_what_is_missing_and_how_to_install_it(installed):
    error = MissingLibraryError("av")
    assert isinstance(error, EngineError)
    assert str(error) == ("av is not installed\n  fix:      pip install 'av>=14' 'paho-mqtt>=2'")
