"""Bundles on disk: read back, verified, refused if damaged, and replaced only by a whole one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patchct_edge.bundle import Bundle, Manifest, Preprocessing
from patchct_edge.bundle.manifest import FORMAT, Stage, compute_fingerprint
from patchct_edge.bundle.precisions import check_precision
from patchct_edge.bundle.write import create_bundle, write_manifest
from patchct_edge.errors import BundleError, UserError
from patchct_edge.files import sha256

FP32_GRAPH = b"exact"
STAGE = Stage("int8", "fp32", "openvino", 9, 0.1, 0.01, 0.02, gate="flips <= 3 %", passed=False)


def make_manifest(**changes):
    values = {
        "labels": ("cat", "Hund 🐕"),
        "prompts": ("A cat.", "Ein Hund."),
        "tau": 0.07,
        "label_source": "learned",
        "preprocessing": Preprocessing(8, fit="pad", std=(0.2, 0.3, 0.4)),
        "grid": (2, 3),
        "producer": "tests",
        "quantization_data": "c",
        "stages": (STAGE, Stage("fp32", "graph", "openvino", 9, 0, 0, 0, map=0.9)),
    }
    values |= changes
    model = compute_fingerprint(
        hashlib.sha256(FP32_GRAPH).hexdigest(),
        *(values[name] for name in ("labels", "preprocessing", "tau", "grid")),
    )
    return Manifest(**{"fingerprint": model, **values})


@pytest.fixture
def bundle(tmp_path):
    """A bundle whose graphs are only bytes: no test here runs them."""
    with create_bundle(tmp_path / "x.patchct") as folder:
        (folder / "model.fp32.onnx").write_bytes(FP32_GRAPH)
        (folder / "model.int8.onnx").write_bytes(b"small")
        (folder / "engines").mkdir()
        (folder / "engines" / "trt.plan").write_bytes(b"compiled")
        write_manifest(folder, make_manifest())
    return tmp_path / "x.patchct"


def edit_manifest(bundle, **changes):
    """Change fields of the manifest's JSON; None removes a field."""
    fields = {**json.loads((bundle / "manifest.json").read_text()), **changes}
    fields = {name: value for name, value in fields.items() if value is not None}
    (bundle / "manifest.json").write_text(json.dumps(fields))
    return bundle


def list_siblings(bundle):
    return sorted(path.name for path in bundle.parent.iterdir())


def test_a_bundle_is_read_as_it_was_written(bundle):
    read = Bundle(str(bundle))
    assert read.manifest == make_manifest(files=read.manifest.files)
    assert set(read.manifest.files) == {"model.fp32.onnx", "model.int8.onnx", "engines/trt.plan"}
    assert read.labels == ("cat", "Hund 🐕")
    assert read.precisions() == ["fp32", "int8"]
    assert read.graph_path("int8").read_bytes() == b"small"
    assert read.failed_stages("int8") == [STAGE]
    assert read.failed_stages("fp32") == []
    read.verify()


def test_the_manifest_can_be_read_by_a_person(bundle):
    assert "Hund 🐕" in (bundle / "manifest.json").read_text(encoding="utf-8")


def test_a_bundle_can_be_read_by_others_and_leaves_nothing_beside_it(bundle):
    assert bundle.stat().st_mode & 0o777 == 0o755
    assert list_siblings(bundle) == ["x.patchct"]


@pytest.mark.parametrize("precision", ["fp16", "int4", "../x", ""])
def test_a_precision_without_a_graph_is_refused(bundle, precision):
    with pytest.raises(BundleError, match=r"(?s)no .* graph.*fp32 or int8.*patchct export"):
        Bundle(bundle).graph_path(precision)


def test_an_unknown_precision_is_refused_with_a_suggestion():
    assert check_precision("int8") == "int8"
    with pytest.raises(BundleError, match="did you mean 'fp16'"):
        check_precision("pf16")


@pytest.mark.parametrize("name", ["model.int8.onnx", "engines/trt.plan"])
@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(b"other"), Path.unlink])
def test_a_file_that_was_altered_or_is_missing(bundle, name, damage):
    damage(bundle / name)
    read = Bundle(bundle)
    assert read.graph_path("fp32")
    for check in (read.verify, lambda: read.verify(name)):
        with pytest.raises(BundleError, match=rf"(?s){name}.*patchct export"):
            check()
    if name.endswith(".onnx"):
        with pytest.raises(BundleError, match=name):
            read.graph_path("int8")


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


CALIBRATION = {
    "fp32": {"temperature": 2.0, "thresholds": {"red": 0.1, "green": 0.2, "blue": 0.3}},
    "int8": {"temperature": 1.5, "thresholds": {"blue": 0.6, "green": 0.5, "red": 0.4}},
}


def test_each_precision_has_its_calibration(write_bundle, tmp_path):
    bundle = Bundle(write_bundle(tmp_path / "x.patchct", calibration=CALIBRATION))
    for precision, temperature, thresholds in (
        ("fp32", 2.0, [0.1, 0.2, 0.3]),
        ("int8", 1.5, [0.4, 0.5, 0.6]),
        ("fp16", 1.0, [0.5, 0.5, 0.5]),
    ):
        calibration = bundle.calibration(precision)
        assert calibration.temperature == temperature
        np.testing.assert_array_equal(calibration.thresholds, thresholds)


def test_a_bundle_without_a_calibration_has_the_default(tiny_bundle):
    calibration = Bundle(tiny_bundle).calibration("int8")
    assert (calibration.temperature, calibration.thresholds.tolist()) == (1, [0.5, 0.5, 0.5])


def test_a_calibration_of_other_labels_is_refused(write_bundle, tmp_path):
    labels = ("red", "green", "yellow")
    bundle = write_bundle(tmp_path / "x.patchct", calibration=CALIBRATION, labels=labels)
    with pytest.raises(BundleError, match=r"(?s)yellow.*copy the bundle again"):
        Bundle(bundle).calibration("fp32")


def test_an_altered_calibration_is_refused(write_bundle, tmp_path):
    bundle = write_bundle(tmp_path / "x.patchct", calibration=CALIBRATION)
    (bundle / "calibration.json").write_text(json.dumps(CALIBRATION).replace("0.1", "0.9"))
    with pytest.raises(BundleError, match=r"calibration\.json was altered"):
        Bundle(bundle).calibration("fp32")


@pytest.mark.parametrize("name", ["x", "x.onnx", "x.patchct.zip", ".patchct"])
def test_a_bundle_has_its_suffix(tmp_path, name):
    with pytest.raises(BundleError, match=r"\.patchct"), create_bundle(tmp_path / name):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_not_a_bundle_is_never_replaced(tmp_path):
    folder, file = tmp_path / "photos.patchct", tmp_path / "file.patchct"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"a")
    file.write_bytes(b"b")
    for target in (folder, file):
        with pytest.raises(BundleError, match="is not a bundle"), create_bundle(target):
            pass
    assert (folder / "a.jpg").read_bytes() == b"a"
    assert file.read_bytes() == b"b"


def test_a_folder_that_cannot_be_created_is_reported(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for name in ("file/x.patchct", "file/deep/x.patchct", f"{'x' * 300}.patchct"):
        with pytest.raises(UserError, match=r"cannot write .*x\.patchct(?s:.*)got:(?s:.*)fix:"):
            create_bundle(tmp_path / name).__enter__()

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)  # permissions do not hold for root
    with pytest.raises(UserError, match=r"cannot write .*x\.patchct(?s:.*)Permission denied"):
        create_bundle(tmp_path / "x.patchct").__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["model.gone.onnx", "x" * 300])
def test_a_missing_file_is_named(bundle, name):
    read = Bundle(edit_manifest(bundle, files={name: "0" * 64}))
    for check in (read.file_path, read.verify):
        with pytest.raises(BundleError, match=f"lacks a file(?s:.*)no {name}"):
            check(name)


def test_a_whole_bundle_replaces_the_old_one(bundle):
    with create_bundle(bundle) as folder:
        (folder / "model.fp32.onnx").write_bytes(FP32_GRAPH)
        write_manifest(folder, make_manifest(producer="later"))
        assert Bundle(bundle).manifest.producer == "tests"
    assert Bundle(bundle).manifest.producer == "later"
    assert set(Bundle(bundle).manifest.files) == {"model.fp32.onnx"}
    assert list_siblings(bundle) == ["x.patchct"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failing_block_keeps_the_old_bundle_and_its_folder(bundle, error):

    def fail(name):
        with create_bundle(bundle) as folder:
            (folder / name).write_bytes(b"half")
            raise error

    for name in ("first", "second"):
        with pytest.raises(error):
            fail(name)
    Bundle(bundle).verify()
    failed = bundle.with_name("x.patchct.failed")
    assert [path.name for path in failed.iterdir()] == ["second"]
    assert list_siblings(bundle) == ["x.patchct", "x.patchct.failed"]


def test_a_failing_block_creates_no_bundle(tmp_path):
    target = tmp_path / "new folder" / "x.patchct"
    with pytest.raises(RuntimeError), create_bundle(target):
        raise RuntimeError
    assert not target.exists()


def test_a_manifest_written_again_has_the_new_hashes(bundle):
    (bundle / "model.int8.onnx").write_bytes(b"better")
    (bundle / "engines" / "trt.plan").unlink()
    write_manifest(bundle, Bundle(bundle).manifest)
    Bundle(bundle).verify()
    assert set(Bundle(bundle).manifest.files) == {"model.fp32.onnx", "model.int8.onnx"}


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


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"fp32": 7}', '{"fp32": []}', "[" * 100_000], ids=lambda t: t[:12]
)
def test_a_calibration_of_another_form_is_refused(bundle, text):
    (bundle / "calibration.json").write_text(text)
    write_manifest(bundle, make_manifest())
    with pytest.raises(BundleError, match="calibration"):
        Bundle(bundle).calibration("fp32")


def test_a_name_that_is_too_long_is_not_a_bundle(tmp_path):
    with pytest.raises(BundleError, match="is not a bundle"):
        Bundle(tmp_path / ("x" * 300))


RECORD = {**CALIBRATION["int8"], "bias": -0.5, "dataset_fingerprint": "d", "objective": "f1"}


def test_a_calibration_replaces_that_of_its_precision_only(write_bundle, tmp_path):
    path = write_bundle(tmp_path / "x.patchct", calibration=CALIBRATION)
    before = Bundle(path)
    bundle = before.store_calibrations({"int8": RECORD, "fp16": RECORD})
    for read in (bundle, Bundle(path)):
        read.verify()
        assert read.calibration_record("int8") == read.calibration_record("fp16") == RECORD
        assert read.calibration_record("fp32") == CALIBRATION["fp32"]
        assert read.calibration("int8").bias == -0.5
    assert bundle.manifest.fingerprint == before.manifest.fingerprint
    changed = dict(bundle.manifest.files.items() - before.manifest.files.items())
    assert list(changed) == ["calibration.json"]


def test_a_bundle_gets_its_first_calibration(write_bundle, tmp_path):
    bundle = Bundle(write_bundle(tmp_path / "x.patchct"))
    assert bundle.calibration_record("int8") is None
    bundle = bundle.store_calibrations({"int8": RECORD})
    bundle.verify()
    assert bundle.calibration_record("int8") == RECORD
    assert bundle.calibration_record("fp32") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "[1]", "null", "[" * 100_000, None])
def test_a_damaged_calibration_is_replaced(bundle, text):
    """None: an altered calibration, whose other precisions must not get a new hash."""
    (bundle / "calibration.json").write_text("{}" if text is None else text)
    write_manifest(bundle, make_manifest())
    if text is None:
        (bundle / "calibration.json").write_text('{"fp16": {"bias": 9}}')
    read = Bundle(bundle).store_calibrations({"int8": RECORD})
    read.verify()
    assert json.loads((bundle / "calibration.json").read_text()) == {"int8": RECORD}


def test_a_missing_calibration_is_written_again(write_bundle, tmp_path):
    path = write_bundle(tmp_path / "x.patchct", calibration=CALIBRATION)
    (path / "calibration.json").unlink()
    assert Bundle(path).store_calibrations({"int8": RECORD}).calibration_record("int8") == RECORD


def test_an_interrupted_calibration_is_reported(write_bundle, tmp_path, monkeypatch):
    """The calibration is new and the manifest old: an error, until the next calibration."""
    path = write_bundle(tmp_path / "x.patchct", calibration=CALIBRATION)
    with monkeypatch.context() as patch:

        def stop(*_):
            raise KeyboardInterrupt

        patch.setattr("patchct_edge.bundle.manifest.Manifest.to_bytes", stop)
        with pytest.raises(KeyboardInterrupt):
            Bundle(path).store_calibrations({"int8": RECORD})
    assert Bundle(path).graph_path("fp32")
    with pytest.raises(BundleError, match=r"calibration\.json was altered"):
        Bundle(path).calibration("int8")
    Bundle(path).store_calibrations({"int8": RECORD}).verify()
