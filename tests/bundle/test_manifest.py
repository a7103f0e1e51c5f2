"""The manifest: read or refused field by field, and the fingerprint of its model."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from manifests import STAGE, edit_manifest, make_manifest

from patchct_edge.bundle import Bundle, Preprocessing
from patchct_edge.bundle.manifest import FORMAT, compute_fingerprint
from patchct_edge.errors import BundleError
from patchct_edge.files import sha256


def test_the_manifest_can_be_read_by_a_person(bundle):
    assert "Hund 🐕" in (bundle / "manifest.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("version", [FORMAT + 1, "1", 0])
def test_another_format_version_is_refused(bundle, version):
    with pytest.raises(BundleError, match=f"(?s)format.*got: *{version}.*{FORMAT}.*upgrade"):
        Bundle(edit_manifest(bundle, format=version))


@pytest.mark.parametrize("field", make_manifest().to_json())
def test_every_field_is_needed(bundle, field):
    with pytest.raises(BundleError, match=field):
        Bundle(edit_manifest(bundle, **{field: None}))


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["cat"]},
        {"labels": ["cat", "dog", "cow"]},
        {"labels": [], "prompts": []},
        {"labels": ["cat", 7]},
        {"grid": [2]},
        {"grid": [2, 0]},
        {"grid": [2, "3"]},
        {"tau": 0},
        {"tau": "warm"},
        {"preprocessing": {"size": 8}},
        {"preprocessing": {**Preprocessing(8).to_json(), "fit": "stretch"}},
        {"preprocessing": {**Preprocessing(8).to_json(), "mean": [10**400, 0, 0]}},
        {"stages": [{"name": "fp32"}]},
        {"files": ["model.fp32.onnx"]},
    ],
    ids=lambda changes: json.dumps(changes)[:40],
)
def test_a_field_of_the_wrong_kind_is_refused(bundle, changes):
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read"):
        Bundle(edit_manifest(bundle, **changes))


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "engines/../../x", ".."])
def test_a_file_outside_the_folder_is_refused(bundle, name):
    with pytest.raises(BundleError, match=f"(?s)outside.*{name}"):
        Bundle(edit_manifest(bundle, files={name: "0" * 64}))


def test_a_path_without_a_bundle_is_refused(tmp_path):
    (tmp_path / "file.patchct").touch()
    for name in (".", "file.patchct", "gone.patchct"):
        with pytest.raises(BundleError, match=r"(?s)is not a bundle.*manifest\.json"):
            Bundle(tmp_path / name)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


FIELDS = make_manifest().to_json()


CHANGED = st.one_of(
    st.tuples(st.sampled_from(list(FIELDS)), ANY_JSON).map(
        lambda pair: {**FIELDS, pair[0]: pair[1]}
    ),
    st.tuples(st.sampled_from(list(FIELDS["preprocessing"])), ANY_JSON).map(
        lambda pair: {**FIELDS, "preprocessing": {**FIELDS["preprocessing"], pair[0]: pair[1]}}
    ),
    ANY_JSON,
)


TEXTS = st.one_of(
    CHANGED.map(lambda value: json.dumps(value).encode()),
    st.integers(0, 400).map(lambda end: json.dumps(FIELDS).encode()[:end]),
    st.binary(max_size=20),
    st.sampled_from([b"[" * 100_000, b"\xff\xfe", b'{"format": 1' + b"0" * 5000 + b"}"]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(TEXTS)
def test_any_manifest_is_read_or_refused(tmp_path, data):
    (tmp_path / "manifest.json").write_bytes(data)
    try:
        read = Bundle(tmp_path)
        assert all(isinstance(label, str) for label in read.labels)
        read.verify()
        read.calibration("fp32")
        read.graph_path("fp32")
    except BundleError:
        pass


@pytest.fixture
def identify(tmp_path):
    """Return the fingerprint of a graph's bytes and what belongs to it."""

    def call(
        graph=b"graph",
        labels=("a", "b"),
        preprocessing=Preprocessing(8),  # noqa: B008  (frozen)
        tau=0.1,
        grid=(2, 3),
        name="model.onnx",
    ):
        (tmp_path / name).write_bytes(graph)
        return compute_fingerprint(sha256(tmp_path / name), labels, preprocessing, tau, grid)

    return call


@pytest.mark.parametrize(
    "change",
    [
        {"graph": b"grape"},
        {"labels": ("b", "a")},
        {"labels": ("a", "c")},
        {"labels": ("a, b",)},
        {"preprocessing": Preprocessing(9)},
        {"preprocessing": Preprocessing(8, fit="crop")},
        {"preprocessing": Preprocessing(8, interpolation="bicubic")},
        {"preprocessing": Preprocessing(8, mean=(0.5, 0.5, 0.4))},
        {"preprocessing": Preprocessing(8, std=(0.4, 0.5, 0.5))},
        {"tau": 0.2},
        {"grid": (3, 2)},
    ],
    ids=str,
)
def test_a_fingerprint_depends_on_all_that_changes_the_tags(identify, change):
    assert identify(**change) != identify()


def test_a_fingerprint_depends_on_nothing_else(identify, write_bundle, tmp_path):
    assert identify(name="other.onnx") == identify()
    plain = write_bundle(tmp_path / "plain.patchct")
    other = write_bundle(
        tmp_path / "other.patchct",
        ("int8", "fp32"),
        prompts=("x", "y", "z"),
        producer="later",
        stages=(STAGE,),
        calibration={"fp32": {}},
    )
    assert Bundle(other).manifest.fingerprint == Bundle(plain).manifest.fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["Hund 🐕", "cat"]},
        {"preprocessing": Preprocessing(16, fit="pad", std=(0.2, 0.3, 0.4)).to_json()},
        {"fingerprint": "0" * 16},
    ],
    ids=list,
)
def test_a_manifest_that_was_edited_is_refused(bundle, changes):
    with pytest.raises(BundleError, match=r"(?s)manifest\.json was altered.*patchct export"):
        Bundle(edit_manifest(bundle, **changes))


def test_a_name_that_is_too_long_is_not_a_bundle(tmp_path):
    with pytest.raises(BundleError, match="is not a bundle"):
        Bundle(tmp_path / ("x" * 300))
