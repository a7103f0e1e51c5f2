"""JPEG snapshots: their names, and which are deleted."""

from __future__ import annotations

from messages import GRAY_PICTURE, label_event

from patchct_edge import images
from patchct_edge.runtime.stream.settings import SnapshotsSettings
from patchct_edge.runtime.stream.sinks.snapshots import SnapshotsSink


def test_snapshots_have_safe_names_and_the_oldest_are_deleted(tmp_path):
    sink = SnapshotsSink(SnapshotsSettings(folder=str(tmp_path / "shots"), keep_files=3))
    assert sink.accepts(label_event())
    assert not sink.accepts(label_event(on=False))
    for number in range(5):
        sink.deliver(label_event(number, "../a b", "c/d"), GRAY_PICTURE)
    sink.close()
    files = sorted((tmp_path / "shots").iterdir())
    assert len(files) == 3
    assert [path.name[:15] for path in files] == [f"20010909T01464{n}" for n in (2, 3, 4)]
    assert images.decode(files[0]).shape == GRAY_PICTURE.shape
    assert sorted(tmp_path.iterdir()) == [tmp_path / "shots"]


def test_only_snapshots_are_deleted(tmp_path):
    photos = [tmp_path / f"{2001 + n}-beach.jpg" for n in range(5)]
    for photo in photos:
        photo.write_bytes(b"dear")
    for number in range(4):  # as after three restarts
        sink = SnapshotsSink(SnapshotsSettings(folder=str(tmp_path), keep_files=2))
        sink.deliver(label_event(number, label="犬" * 150), GRAY_PICTURE)
        sink.close()
    assert all(photo.exists() for photo in photos)
    assert len(list(tmp_path.iterdir())) == 5 + 2
