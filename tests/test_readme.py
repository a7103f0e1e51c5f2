"""Every command and every line of Python in the README and in the tutorial runs, in their order.

Fenced blocks are read by their language: `bash` and `python` are run, `json` must be rows or
events that a command prints, `text` and `toml` are shown only. A command that is not `patchct` must
be known to `CHECKS`, and a placeholder to `run_command`.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/tutorial.md")
}
# A model that has seen 72 squares five times need not pass: these options go to that command.
OPEN_GATES = ["--max-flips", "100", "--max-map-drop", "100"]
EXTRA_OPTIONS = {
    "export": OPEN_GATES,
    "train": ["--device", "cpu", "--epochs", "5"],
    "report": ["--engine", "onnxruntime", *OPEN_GATES],
    "stream": ["--frames", "3"],
}
PARSED_ONLY = {"demo"}  # takes minutes; its own test runs it
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW_KEYS = ({"path", "tags"}, {"path", "error"})


def read_blocks(text: str) -> list[tuple[str, str]]:
    """Return the language and the text of every fenced block."""
    return FENCE.findall(text)


def read_commands(block: str) -> list[str]:
    """Return the commands of a shell block without comments, continued lines joined."""
    lines = re.sub(r"\s*\\\n\s*", " ", block).splitlines()
    commands = (shlex.join(shlex.split(line, comments=True)) for line in lines)
    return [command for command in commands if command]


@pytest.fixture(scope="module", params=list(PAGES))
def page(request: pytest.FixtureRequest) -> str:
    return PAGES[request.param]


@pytest.fixture(scope="module")
def folder(
    page: str, tmp_path_factory: pytest.TempPathFactory, write_squares: Callable[..., Path]
) -> Path:
    """A folder in which the names of the pages exist."""
    folder = tmp_path_factory.mktemp("readme")
    data = write_squares(folder / "photos", "images/{}-{}.jpg", train=72, val=32)
    shutil.copy(data.parent / "images/val-1.jpg", folder / "photo.jpg")
    shutil.copy(data.parent / "images/val-1.jpg", folder / "photos/images/001.jpg")
    return folder


@pytest.fixture
def run_command(
    folder: Path,
    run_cli: Callable[..., Any],
    encoder_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], Any]:
    """Run a `patchct` command; the tiny encoder and a test pattern stand in for real ones."""
    monkeypatch.chdir(folder)
    placeholders = {"rtsp://10.0.0.5/stream": "test://pattern"}
    extra: dict[str, Sequence[object]] = {
        **EXTRA_OPTIONS,
        "train": [*EXTRA_OPTIONS["train"], "--image-encoder", encoder_folder],
    }

    def run(command: str) -> Any:
        words = shlex.split(command)[1:]
        unknown = [word for word in words if re.fullmatch(r"[A-Z]{2,}", word)]
        assert not unknown, f"unknown placeholder {unknown} in {command!r}"
        words = [placeholders.get(word, word) for word in words]
        if words[0] in PARSED_ONLY:
            words.append("--help")
        try:
            return run_cli(*words, *extra.get(words[0], []))
        except AssertionError as error:
            pytest.fail(f"{command}\n{error}")

    return run


def check_make(command: str) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    names = [word for word in shlex.split(command)[1:] if "=" not in word]
    assert set(names) <= set(targets), command


def check_pip(command: str) -> None:
    extras = set(metadata.metadata("patchct-edge").get_all("Provides-Extra") or ())
    for names in re.findall(r"\.\[(.*?)\]", command):
        assert set(names.split(",")) <= extras, command


def check_nothing(command: str) -> None:
    pass


CHECKS = {
    "make": check_make,
    "pip": check_pip,
    "python3": check_nothing,
    "head": check_nothing,
    "git": check_nothing,
}


def check_json(block: str) -> None:
    """Check that every line is a row of tags, or a row or an event of a stream."""
    for line in block.splitlines():
        keys = set(json.loads(line))
        assert keys in ROW_KEYS or {"type", "camera", "time"} <= keys, line


def test_every_block_runs(
    page: str, run_command: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    commands_run = []
    for language, block in read_blocks(page):
        if language == "python":
            exec(compile(block, "page", "exec"), {})
            assert "Tag(label=" in capsys.readouterr().out
        elif language == "json":
            check_json(block)
        elif language == "bash":
            for command in read_commands(block):
                program = command.split()[0]
                if program == "patchct":
                    run_command(command)
                    commands_run.append(command.split()[1])
                else:
                    CHECKS[program](command)
        else:
            assert language in ("text", "toml"), language
    assert {"train", "export", "calibrate", "tag", "report"} <= set(commands_run)


def test_every_command_in_the_prose_exists(page: str, run_cli: Callable[..., Any]) -> None:
    for command in set(re.findall(r"`patchct ([a-z]+)", page)):
        run_cli(command, "--help")
    options = set(re.findall(r"`(--[a-z][a-z-]*)", page))
    commands = ("demo", "train", "export", "tag", "stream", "compile")
    help_text = "".join(run_cli(command, "--help").stdout for command in commands)
    assert {option for option in options if option not in help_text} == set()


def test_every_link_leads_to_a_file() -> None:
    for name, text in PAGES.items():
        links = re.findall(r"\]\(([^)#]+)", text)
        missing = [
            link
            for link in links
            if "://" not in link and not ((ROOT / name).parent / link).exists()
        ]
        assert missing == [], name


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("a\n```bash\nx\n```\nb\n", [("bash", "x\n")]),
        ("```json\n{}\n```\n\n```text\ny\nz\n```\n", [("json", "{}\n"), ("text", "y\nz\n")]),
        ("no block\n", []),
    ],
)
def test_blocks_are_read_with_their_language(text: str, blocks: list[tuple[str, str]]) -> None:
    assert read_blocks(text) == blocks


def test_comments_and_continued_lines_are_read_as_a_shell_does() -> None:
    assert read_commands("# c\nmake a  # b\npatchct x \\\n  --y\n") == ["make a", "patchct x --y"]
