"""What all commands share: help, suggestions, messages and exit codes."""

from __future__ import annotations

import importlib
import io
import json
import logging
import subprocess
import sys
from typing import Any

import pytest
import typer

import patchct_edge
from patchct_edge.cli import console
from patchct_edge.cli.app import COMMANDS, app, make_command
from patchct_edge.cli.doctor import LIBRARIES
from patchct_edge.errors import BundleError, EngineError, ExitCode, GateError, UserError
from patchct_edge.evaluation.gates import Gates
from patchct_edge.train.config import TrainConfig

DEFAULTS = TrainConfig()
LOGGER = logging.getLogger("patchct_edge.tests")
# Words that the help of a command must contain: units, ranges and defaults.
HELP_WORDS = {
    "demo": ["default: demo", "in about a minute"],
    "train": [
        "image,labels",
        "COCO JSON",
        "VOC",
        "[required]",
        "or a tenth",
        "by default the GPU",
        "'learned' (the default)",
        f"{DEFAULTS.image_encoder} by default",
        f"Passes over the images; {DEFAULTS.epochs} by default",
        f"Images per step; {DEFAULTS.batch_size} by default",
        f"{DEFAULTS.seed} by default",
        "a tab and a prompt",
        "--settings",
    ],
    "export": [
        "fp32,fp16,int8",
        "val by default",
        "default: best",
        f"FP32, 0..1. [default: {Gates().max_fp32_difference:g}]",
        f"FP16, 0..1. [default: {Gates().max_fp16_difference:g}]",
        f"points of 0..100. [default: {Gates().max_map_drop:g}]",
        f"INT8 may change, percent. [default: {Gates().max_flips}]",
    ],
    "tag": [
        "default: jsonl",
        "0..1; each label's own by default",
        "stdout by default",
        "all by default",
        "the fastest that fits by default",
        "a list from stdin",
        "Images per batch; the engine's choice",
    ],
    "stream": [
        "test://pattern",
        "in place of SOURCE",
        "all by default",
        "over TCP by default",
        "stdout by default",
        "seconds. [default: 0.5]",
        "reopened. [default: 10.0]",
    ],
    "eval": ["val split by default", "the fastest that fits by default"],
    "explain": [
        "a list from stdin",
        "maps.png or prototypes.png by default",
        "the tags by default",
        "the fastest that fits by default",
        "png, html, json or npy",
    ],
    "calibrate": [
        "f1, precision=P or recall=R; P and R in 0..1. [default: f1]",
        "val split by default",
    ],
    "report": [
        "[default: report.html]",
        f"largest mAP drop, points of 0..100. [default: {Gates().max_map_drop:g}]",
        f"tags that may change, percent. [default: {Gates().max_flips}]",
        "95th percentile of one photo, ms; no limit by default",
        "peak memory of a process, MB; no limit by default",
    ],
    "show": ["sha256", "JSON"],
    "doctor": ["JSON", "install"],
    "compile": ["largest", "MiB. [default: 1024]", "[default: fp16]", "[default: 1,8,32]"],
}


def strip_frames(text):
    """Return the words of a help text without the frames around and between them."""
    return " ".join(word for word in text.split() if not set(word) <= set("│╭╮╰╯─"))


def run_command(function, verbose=False, quiet=False, log_format=console.LogFormat.TEXT):
    make_command(function)(verbose=verbose, quiet=quiet, log_format=log_format)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_command(run_cli, flag):
    help_text = strip_frames(run_cli(flag).stdout)
    assert all(f" {name} " in help_text for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_states_units_and_defaults(run_cli, command):
    help_text = strip_frames(run_cli(command, "--help").stdout)
    assert [words for words in HELP_WORDS[command] if words not in help_text] == []
    assert run_cli(command, "-h").stdout


def test_the_help_of_every_option_names_its_default():
    group: Any = typer.main.get_command(app)
    options_without_default = [
        f"{name} {option.opts[0]}"
        for name, command in group.commands.items()
        for option in command.params
        if option.param_type_name == "option"
        and not (option.required or option.is_flag or option.name == "help")
        and option.default in (None, ())
        and "default" not in option.help
    ]
    assert options_without_default == []


def test_version(run_cli):
    assert run_cli("--version").stdout == f"patchct {patchct_edge.__version__}\n"


def test_without_a_command_the_help_is_printed(run_cli):
    assert "train" in run_cli(code=2).output


@pytest.mark.parametrize("words", [["--help"], ["tag", "--help"], ["train", "--help"]])
def test_help_imports_no_large_library(words):
    script = (
        "import sys; from patchct_edge.cli.app import app\n"
        f"try: app({words})\n"
        "except SystemExit: pass\n"
        "large = {'numpy', 'PIL', 'torch', 'openvino', 'onnx', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'{large}' if large else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        ("trian x.csv", "'train'"),
        ("exprot run", "'export'"),
        ("evla", "'eval'"),
        ("train x.csv --out r --epoch 3", "--epochs"),
        ("train x.csv --otu r", "--out"),
        ("export run --out x.patchct --max-flip 1", "--max-flips"),
        ("tag x.jpg --model x.patchct --treshold 0.5", "--threshold"),
        ("eval x.patchct x.csv --jsno", "--json"),
        ("show x.patchct --verfy", "--verify"),
        ("demo --quik", "--quick"),
    ],
)
def test_a_typo_is_answered_with_a_suggestion(run_cli, words, suggestion):
    result = run_cli(*words.split(), code=2)
    assert suggestion in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        "train",
        "train x.csv",
        "export run",
        "tag x.jpg",
        "tag --model x.patchct",
        "show",
        "eval x.patchct",
        "tag x.jpg --model x.patchct --threshold 2",
        "tag x.jpg --model x.patchct --top-k 0",
        "tag x.jpg --model x.patchct --batch 0",
        "tag x.jpg --model x.patchct --format xml",
        "train x.csv --out r --epochs many",
        "export run --out x.patchct --checkpoint latest",
        "show a.patchct b.patchct",
    ],
)
def test_wrong_usage_is_exit_code_2(run_cli, words):
    result = run_cli(*words.split(), code=2)
    assert result.stdout == ""
    assert "Usage: patchct" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train nowhere.csv --out run", ["no such dataset", "got:", "expected:", "fix:"]),
        ("train nowhere.csv --out run --resume", ["no such run: run", "fix:"]),
        ("train nowhere.csv --out run --from old", ["no such run: old", "fix:"]),
        ("train nowhere.csv --out run --config c.json", ["cannot read c.json", "expected:"]),
        ("train nowhere.csv --out run --set epochs", ["NAME=VALUE", "got: epochs", "--settings"]),
        ("export nowhere --out x.patchct", ["no such run: nowhere", "expected:", "fix:"]),
        ("export nowhere --out x.patchct --precision int9", ["got: int9", "'int8'?"]),
        ("tag x.jpg --model nowhere.patchct", ["is not a bundle", "got:", "manifest.json"]),
        ("eval nowhere.patchct x.csv", ["is not a bundle", "got:", "expected:"]),
        ("show nowhere.patchct", ["is not a bundle", "got:", "expected:"]),
    ],
)
def test_user_errors(run_cli, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    result = run_cli(*words.split(), code=2)
    assert result.stdout == ""
    message = strip_frames(result.stderr)
    assert message.startswith(("error:", "warning:", "reading"))
    assert [part for part in expected if part not in message] == []
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("*.patchct*"))


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (None, 0),
        (ExitCode.SOME_INPUTS_FAILED, 1),
        (UserError("what", got="1", expected="2", fix="patchct show"), 2),
        (BundleError("what"), 2),
        (EngineError("what"), 3),
        (GateError("what"), 4),
        (KeyboardInterrupt(), 130),
    ],
    ids=str,
)
def test_exit_codes(end, code, capsys):
    def command():
        if isinstance(end, BaseException):
            raise end
        return end

    with pytest.raises(typer.Exit) as caught:
        run_command(command)
    assert caught.value.exit_code == code
    out, err = capsys.readouterr()
    assert out == ""
    expected = {0: "", 1: "", 130: "interrupted; everything finished so far is kept\n"}
    assert err == expected.get(code, f"error: {end}\n")


def test_a_bug_shows_its_traceback():
    def command():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(command)


@pytest.mark.parametrize("library", LIBRARIES[1:], ids=lambda library: library.name)
def test_a_missing_library_is_named_with_the_line_that_installs_it(monkeypatch, capsys, library):
    monkeypatch.setitem(sys.modules, library.module, None)
    for name in (library.module, f"{library.module}.nothing"):
        with pytest.raises(typer.Exit) as caught:
            run_command(lambda name=name: importlib.import_module(name))
        assert caught.value.exit_code == 3
        stderr = capsys.readouterr().err
        assert stderr.startswith(f"error: {library.name} is not installed\n")
        assert f"pip install '{library.name}" in stderr


@pytest.mark.parametrize("name", ["patchct_edge.gone", "nothing_of_that_name"])
def test_any_other_missing_module_is_a_bug(name):
    with pytest.raises(ModuleNotFoundError):
        run_command(lambda: importlib.import_module(name))


@pytest.mark.parametrize(
    "text", [":100: :cat:", "a\\", "[red]a[/]", "a[/b]", "\\[bold]", "x" * 300, "a  b "]
)
def test_text_is_printed_unchanged(capsys, monkeypatch, text):
    console.set_up_logging()
    for level in (logging.INFO, logging.WARNING, logging.ERROR):
        LOGGER.log(level, "%s", text)
    monkeypatch.setattr(console.out, "width", 700)
    console.print_table(("name", "count"), [(text, text)], text_columns=2)
    out, err = capsys.readouterr()
    assert err == f"{text}\nwarning: {text}\nerror: {text}\n"
    row = out.splitlines()[3]  # after the headers and their rule
    assert row.count(text.rstrip()) == 2
    assert set(row.replace(text.rstrip(), "")) <= {" "}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["info", "warning: warning", "error: error"]),
        ({"quiet": True}, ["warning: warning", "error: error"]),
        (
            {"verbose": True},
            ["debug: debug", "info", "warning: warning", "error: error", "warning: of a library"],
        ),
    ],
    ids=str,
)
def test_verbose_and_quiet_select_the_messages(capsys, options, expected):
    console.set_up_logging(**options)
    for level in ("debug", "info", "warning", "error"):
        getattr(LOGGER, level)(level)
    library = logging.getLogger("library")
    library.setLevel(logging.INFO)
    library.info("hidden")
    library.warning("of a library")
    assert capsys.readouterr().err.splitlines() == expected


def test_messages_as_json(run_cli, tmp_path):
    result = run_cli("show", tmp_path / "x.patchct", "--log-format", "json", code=2)
    (line,) = result.stderr.splitlines()
    assert "x.patchct" in json.loads(line)["message"]


def test_a_message_is_dropped_when_stderr_is_closed(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    console.set_up_logging()
    for stream in (None, Closed()):
        monkeypatch.setattr(sys, "stderr", stream)
        LOGGER.warning("nobody reads this")


def test_a_record_with_wrong_arguments_raises_nothing(capsys):
    record = LOGGER.makeRecord(LOGGER.name, logging.WARNING, __file__, 1, "%d", ("many",), None)
    console.StderrHandler(show_libraries=False).handle(record)
    assert "Logging error" in capsys.readouterr().err


def test_messages_and_progress_at_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(console.err, "is_interactive", True)
    monkeypatch.setenv("TERM", "xterm")
    console.set_up_logging()
    with console.progress() as progress:
        advance = progress.stage("scoring [red]", 4)
        advance(1, "loss 0.5")
        LOGGER.info("a message")
        advance(4)
    shown = terminal.getvalue()
    assert "scoring [red]" in shown
    assert "a message\n" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_options_of_its_messages(run_cli, command):
    words = strip_frames(run_cli(command, "--help").stdout)
    for option in ("--verbose -v", "--quiet -q", "--log-format"):
        assert option in words


def test_python_m_runs_the_command_line():
    words = [sys.executable, "-m", "patchct_edge", "--version"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout == f"patchct {patchct_edge.__version__}\n", done.stderr


def test_brackets_in_a_message_are_printed(run_cli, tmp_path):
    name = tmp_path / "[bold]x[/bold]"
    assert "[bold]x[/bold]" in run_cli("show", name, code=2).stderr


def test_every_command_is_registered():
    assert [command.name for command in app.registered_commands] == list(COMMANDS)
