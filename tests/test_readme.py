"""Every command and every line of Python in the README runs, in the order in which it stands there.

A block is read by its lines: `make TARGET` and `pip install` are looked up, `patchct ...` and
Python are run, JSON is a row that a command prints, and a listing begins with a path of the
repository. What is none of these fails: teach it to `LINES`, or a placeholder to `run_line`.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# A model that has seen 72 squares five times need not pass: `extra` goes to that command.
OPEN = ["--max-flips", "100", "--max-map-drop", "100"]
EXTRA = {
    "export": OPEN,
    "train": ["--device", "cpu"],
    "report": ["--engine", "onnxruntime", *OPEN],
    "stream": ["--frames", "3"],
}
CAMERAS = 'model = "x.patchct"\n[[camera]]\nname = "door"\nsource = "test://pattern"\n'
PARSED_ONLY = {"demo"}  # takes minutes; its own test runs it


def blocks(text):
    """Return the lines of each indented or fenced block, those continued by a backslash joined."""
    found, fenced, indented = [], False, False
    previous = ""
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
            found += [[]] if fenced else []
        elif fenced:
            found[-1].append(line)
        elif line.startswith("    ") and (indented or not previous.strip()):
            found += [] if indented else [[]]
            found[-1].append(line[4:])
            indented = True
        elif line.strip():
            indented = False
        previous = line
    joined = (re.sub(r"\s*\\\n\s*", " ", "\n".join(block)).splitlines() for block in found)
    return [[line for line in block if line.strip()] for block in joined]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_squares, write_coco, encoder_folder, label_table):
    """A folder in which the names of the README exist."""
    folder = tmp_path_factory.mktemp("readme")
    data = write_squares(folder / "photos", "images/{}-{}.jpg", train=72, val=32)
    shutil.copy(data.parent / "images/val-1.jpg", folder / "photo.jpg")
    shutil.copy(label_table, folder / "table.npz")
    (folder / "cams.toml").write_text(CAMERAS)
    for split in ("train", "val"):
        source = write_squares(folder / f"{split}2017", **{split: 16})
        write_coco(source, folder / f"annotations/instances_{split}2017.json")
    return folder


@pytest.fixture
def run_line(folder, run_cli, encoder_folder, monkeypatch):
    monkeypatch.chdir(folder)
    placeholders = {"FOLDER": str(encoder_folder), "rtsp://10.0.0.5/stream": "test://pattern"}

    def patchct(line):
        """Run `[COMMAND |] patchct ... [| COMMAND]`; only what comes before it is run as well."""
        before, command, _ = re.fullmatch(r"(?:(.*) \| )?(patchct .*?)( \| .*)?", line).groups()
        words = shlex.split(command, comments=True)[1:]
        unknown = [w for w in words if re.fullmatch(r"[A-Z]{2,}", w) and w not in placeholders]
        assert not unknown, f"unknown placeholder {unknown} in {line!r}: add it to `placeholders`"
        words = [placeholders.get(word, word) for word in words]
        stdin = subprocess.check_output(before, shell=True) if before else None
        name = next((word for word in words if not word.startswith("-")), "")
        if name in PARSED_ONLY:
            words.append("--help")
        try:
            return run_cli(*words, *EXTRA.get(name, []), stdin=stdin)
        except AssertionError as error:
            pytest.fail(f"README: {line}\n{error}")

    return patchct


def make(line):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = [word for word in shlex.split(line, comments=True)[1:] if "=" not in word]
    assert set(named) <= set(targets), line


def pip(line):
    extras = set(metadata.metadata("patchct-edge").get_all("Provides-Extra"))
    for asked in re.findall(r"patchct-edge\[(.*?)\]", line):
        assert set(asked.split(",")) <= extras, line


def row(line):
    assert {"path"} < set(json.loads(line)) <= {"path", "tags", "error"}, line


def nothing(line):
    pass


LINES = (
    (r"make\b", make),
    (r"pip install\b", pip),
    (r"\{", row),
    (r"(git|cd|sudo|apt-get)\b", nothing),
    (r"#", nothing),
)


def is_python(block):
    return any(re.match(r"(from \w+ )?import ", line) for line in block)


def is_listing(block):
    return (ROOT / block[0].split()[0]).exists()


def test_every_block_of_the_readme_holds(run_line, capsys):
    ran = []
    for block in blocks(README):
        if is_python(block):
            exec(compile("\n".join(block), "README.md", "exec"), {})
            ran.append("python")
        elif not is_listing(block):
            for line in block:
                line = line.removeprefix("$ ")
                check = next((check for start, check in LINES if re.match(start, line)), None)
                if check is not None:
                    check(line)
                elif re.search(r"(^|\| )patchct ", line):
                    run_line(line)
                    ran.append(shlex.split(line[line.index("patchct ") :])[1])
                else:
                    pytest.fail(f"README: cannot tell what {line!r} is: add it to `LINES`")
    assert {"train", "export", "tag", "eval", "show", "python"} <= set(ran)
    assert "Tag(label=" in capsys.readouterr().out


def test_every_command_in_the_prose_exists(run_cli):
    named = set(re.findall(r"`patchct ([a-z]+)", README))
    for command in named:
        run_cli(command, "--help")
    options = set(re.findall(r"`(--[a-z][a-z-]*)", README))
    said = "".join(run_cli(command, "--help").stdout for command in ("train", "export", "tag"))
    assert {option for option in options if option not in said} == set()


def test_every_link_of_the_readme_leads_to_a_file():
    links = re.findall(r"\]\(([^)#]+)", README)
    assert [x for x in links if "://" not in x and not (ROOT / x).exists()] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n\n    patchct x\n\n    make y\nb\n", [["patchct x", "make y"]]),
        ("a\n    no block\n", []),
        ("- item\n\n```sh\npatchct a \\\n  --b\n```\n", [["patchct a --b"]]),
        ("    one\n\ntext\n\n    two\n", [["one"], ["two"]]),
    ],
)
def test_blocks(text, expected):
    assert blocks(text) == expected


def test_an_unknown_placeholder_is_told(run_line):
    with pytest.raises(AssertionError, match="unknown placeholder"):
        run_line("patchct stream SOURCE --model x.patchct")
