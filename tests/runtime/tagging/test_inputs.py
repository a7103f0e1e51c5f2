"""Finding the images that a user names: files, folders, patterns and lists, lazily."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchct_edge.errors import UserError
from patchct_edge.runtime.tagging.inputs import find_images

MakeFiles = Callable[..., None]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeFiles:
    """Enter a temporary folder; return a function that creates empty files in it."""
    monkeypatch.chdir(tmp_path)

    def make(*names: str) -> None:
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()

    return make


def find_names(*inputs: str, stdin: bytes = b"") -> list[str]:
    return [str(path) for path in find_images(inputs, io.BytesIO(stdin))]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ("b.jpg a.jpg", "b.jpg a.jpg"),
        ("a.jpg a.jpg", "a.jpg a.jpg"),
        ("notes.txt", "notes.txt"),
        ("gone.jpg", "gone.jpg"),
        ("d", "d/1.JPG d/2.tiff d/deep/x/3.png d/z.webp"),
        ("d/", "d/1.JPG d/2.tiff d/deep/x/3.png d/z.webp"),
        ("d/deep b.jpg", "d/deep/x/3.png b.jpg"),
        (".hidden", ".hidden/h.jpg"),
        (".", "a.jpg b.jpg d/1.JPG d/2.tiff d/deep/x/3.png d/z.webp p[1].jpg"),
        ("*.jpg", "a.jpg b.jpg p[1].jpg"),
        ("?.jpg", "a.jpg b.jpg"),
        ("[b-z].jpg", "b.jpg"),
        ("*.txt", "notes.txt"),
        ("d/*", "d/1.JPG d/2.tiff d/notes.txt d/z.webp"),
        ("d/**/*.png", "d/deep/x/3.png"),
        ("**/*.p*", "d/deep/x/3.png"),
        ("p[1].jpg", "p[1].jpg"),
        ("*.gif a.jpg", "a.jpg"),
        ("empty a.jpg", "a.jpg"),
    ],
)
def test_inputs_name_images_in_order(files: MakeFiles, inputs: str, expected: str) -> None:
    files("a.jpg", "b.jpg", "p[1].jpg", "notes.txt", ".secret.jpg", ".hidden/h.jpg")
    files("d/z.webp", "d/1.JPG", "d/2.tiff", "d/notes.txt", "d/deep/x/3.png", "d/.git/4.jpg")
    Path("empty").mkdir()
    assert find_names(*inputs.split()) == expected.split()


def test_absolute_inputs_give_absolute_paths(files: MakeFiles, tmp_path: Path) -> None:
    files("d/a.jpg")
    for name in ("d", "d/a.jpg", "*/*.jpg", "**/*.jpg"):
        assert find_names(str(tmp_path / name)) == [str(tmp_path / "d" / "a.jpg")]


def test_a_folder_is_listed_when_its_turn_comes(files: MakeFiles) -> None:
    files("d/a/1.jpg", "d/b/gone.jpg")
    images = find_images(["d"])
    assert next(images) == Path("d/a/1.jpg")
    Path("d/b/gone.jpg").rename("d/b/2.jpg")
    assert list(images) == [Path("d/b/2.jpg")]


def test_linked_folders_are_followed_and_cycles_end(files: MakeFiles) -> None:
    files("elsewhere/1.jpg", "d/2.jpg", "d/deep/3.jpg")
    Path("d/link").symlink_to("../elsewhere")
    Path("d/again").symlink_to("../elsewhere")
    Path("d/deep/up").symlink_to("..")
    Path("elsewhere/self").symlink_to(".")
    assert find_names("d") == ["d/2.jpg", "d/again/1.jpg", "d/deep/3.jpg"]
    assert find_names("d", "d") == 2 * find_names("d")


def test_a_broken_link_is_yielded_for_its_error(files: MakeFiles) -> None:
    files("d/a.jpg")
    Path("d/b.jpg").symlink_to("gone.jpg")
    Path("d/c.jpg").symlink_to("c.jpg")  # links to itself
    Path("d/folder").symlink_to("gone")
    assert find_names("d") == find_names("d/*.jpg") == ["d/a.jpg", "d/b.jpg", "d/c.jpg"]


def test_a_pipe_is_read_only_if_it_is_named(files: MakeFiles) -> None:
    files("d/a.jpg")
    os.mkfifo("d/b.jpg")
    assert find_names("d") == find_names("d/*") == ["d/a.jpg"]
    assert find_names("d/b.jpg") == ["d/b.jpg"]


def test_a_folder_that_cannot_be_read_is_yielded_for_its_error(
    files: MakeFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    files("d/a/1.jpg", "d/b/2.jpg")
    scan = os.scandir

    def refuse(path: str) -> object:
        if path == "d/a":
            raise PermissionError(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)  # permissions do not hold for root
    assert find_names("d") == ["d/a", "d/b/2.jpg"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a.jpg\nb.jpg\n", ["a.jpg", "b.jpg"]),
        (b"a.jpg\nb.jpg", ["a.jpg", "b.jpg"]),
        (b"\n\na.jpg\n  \nb c.jpg\n", ["a.jpg", "b c.jpg"]),
        (b"a.jpg\r\n\r\nb.jpg\r\n", ["a.jpg", "b.jpg"]),
        (b"a.jpg\r\nb.jpg\r", ["a.jpg", "b.jpg"]),
        (b"a.jpg\r\r\n", ["a.jpg\r"]),
        (b"a.jpg\r\0b.jpg\r\0c.jpg\r", ["a.jpg\r", "b.jpg\r", "c.jpg\r"]),
        (b"a.jpg\0b\nc.jpg\0", ["a.jpg", "b\nc.jpg"]),
        (b"a\nb.jpg\0c.jpg", ["a\nb.jpg", "c.jpg"]),
        (b"*.jpg\nd\n-\n", ["*.jpg", "d", "-"]),
        (b"caf\xe9.jpg\n", [os.fsdecode(b"caf\xe9.jpg")]),
    ],
)
def test_a_list_on_stdin_names_images(files: MakeFiles, data: bytes, expected: list[str]) -> None:
    files("d/x.jpg")
    assert find_names("-", stdin=data) == expected
    assert find_names("d", "-", "gone.jpg", stdin=data) == ["d/x.jpg", *expected, "gone.jpg"]


PATH = st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name)
LISTABLE = PATH.filter(lambda name: b"/" not in name and name not in (b".", b"..") and name.strip())


@given(st.lists(LISTABLE, min_size=1), st.sampled_from([b"\0", b"\n"]))
def test_any_name_can_stand_in_a_list(names: list[bytes], end: bytes) -> None:
    names = [name for name in names if end not in name] or [b"a"]
    paths = find_images(["-"], io.BytesIO(end.join(names) + end))
    expected = [name.removesuffix(b"\r") for name in names] if end == b"\n" else names
    assert [os.fsencode(path) for path in paths] == expected


def test_a_list_longer_than_one_chunk() -> None:
    names = [f"{n}.jpg" for n in range(100_000)]
    assert find_names("-", stdin="\n".join(names).encode()) == names


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_list_is_read_while_it_is_written(buffering: int) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=buffering) as stdin, open(writer, "wb", buffering=0) as out:
        images = find_images(["-"], stdin)
        for name in ("a.jpg", "b.jpg"):
            out.write(f"{name}\n".encode())
            assert next(images) == Path(name)
        out.close()
        assert list(images) == []


def test_standard_input_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a.jpg\n")))
    assert list(find_images(["-"])) == [Path("a.jpg")]


@pytest.mark.parametrize("inputs", ["empty", "*.jpg", "no[a-z]/**", "empty *.jpg -"])
def test_finding_no_images_is_an_error_that_names_the_inputs(files: MakeFiles, inputs: str) -> None:
    files("empty/notes.txt", "empty/.hidden.jpg")
    with pytest.raises(UserError, match="no images found") as caught:
        find_names(*inputs.split())
    assert all(repr(name) in str(caught.value) for name in inputs.split())
    assert ".jpg" in str(caught.value)
    assert "fix:" in str(caught.value)


def test_cycles_of_links_end_in_a_pattern_too(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        for other in ("a", "b", "c"):
            (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    (tmp_path / "b" / "x.jpg").touch()
    for pattern in ("**/*.jpg", "**", "**/**", "b/**", "?/x.*"):
        assert list(find_images([f"{tmp_path}/{pattern}"])) == [tmp_path / "b" / "x.jpg"]


def test_an_empty_list_is_reported():
    with pytest.raises(UserError, match="the list on stdin is empty"):
        list(find_images(["-"], io.BytesIO(b"\n\n")))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("d/**/x**.jpg", ["d/b/x1.jpg", "d/x0.jpg"]),
        ("d/**/.thumbs/*.jpg", ["d/.thumbs/t.jpg"]),
        ("d/**/../x*.jpg", ["d/b/../x0.jpg"]),
        (f"d/**/{'x' * 300}*", []),
    ],
)
def test_a_pattern_may_name_hidden_parent_and_overlong_parts(files: MakeFiles, pattern, names):
    files("d/x0.jpg", "d/b/x1.jpg", "d/.thumbs/t.jpg", "d/.hidden/x2.jpg")
    assert sorted(find_names(pattern, "d/x0.jpg")) == sorted([*names, "d/x0.jpg"])
