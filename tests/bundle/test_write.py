"""New bundles: written aside, and only a whole one replaces an old one."""

from __future__ import annotations

import pytest
from manifests import FP32_GRAPH, make_manifest

from patchct_edge.bundle import Bundle
from patchct_edge.bundle.write import create_bundle, write_manifest
from patchct_edge.errors import BundleError, UserError


def list_siblings(bundle):
    return sorted(path.name for path in bundle.parent.iterdir())


def test_a_bundle_can_be_read_by_others_and_leaves_nothing_beside_it(bundle):
    assert bundle.stat().st_mode & 0o777 == 0o755
    assert list_siblings(bundle) == ["x.patchct"]


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
