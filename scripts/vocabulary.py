"""Fail where a name or a directive that this project has given up comes back.

    python scripts/vocabulary.py [PATH ...]

Checks every Python file below the given paths (by default the whole project): identifiers that say
nothing or that stood for an idea which now has the field's name, functions named by a participle,
and directives that switch the formatter off. Prints one line per finding and exits with 1.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("patchct_edge", "tests", "benchmarks", "scripts", "examples", "docs")

# Names that could mean anything: the thing has a name of its own.
VAGUE = frozenset({"found", "each", "said", "given", "told"})
# Names of before 0.2.0, with what they are called now.
RENAMED = {
    "judged": "predictions",
    "Judged": "Predictions",
    "Recipe": "Preprocessing",
    "recipe_fields": "read_normalization",
    "PixelsOf": "Normalize",
    "Average": "EMA",
    "Watched": "CameraSession",
    "watched": "session",
    "Steady": "LabelSmoother",
    "Rule": "Hysteresis",
    "at_size": "resize_position_embeddings",
    "descend": "training_step",
    "Outlet": "Sink",
    "outlet": "sink",
    "outlets": "sinks",
    "Courier": "SinkWorker",
    "courier": "worker",
    "couriers": "workers",
    "Trouble": "RecurringFailureFilter",
    "Orders": "Control",
    "orders": "control",
    "Wish": "EngineRequest",
    "wish": "request",
    "Measured": "EngineReport",
    "calib": "quant_data",
    "calibration_data": "quantization_data",
    "left_out": "skipped",
    "board": "device_stats",
    "uncalibrated_reason": "reliability_error",
    "arithmetic": "compute_precision",
    "made_by": "producer",
    "quantise": "quantize",
    "Explained": "Explanation",
    "Fitted": "CalibrationFit",
    "CrossFitted": "CrossFit",
    "MissingExtra": "MissingLibraryError",
    "Closing": "Closeable",
    "DataSet": "Dataset",
    "with_similarity": "with_maps",
    "hold": "min_duration",
    "stall": "stall_timeout",
    "starting": "import_s",
}  # `recipe` is free: the training plan that `train` chooses from the data
FORMER_MODULES = {
    "document.py": "report.py",
    "fitting.py": "roi.py",
    "grids.py": "plots.py",
    "half.py": "fp16.py",
    "heat.py": "overlay.py",
    "judged.py": "predictions.py",
    "measure.py": "engine_report.py",
    "panels.py": "plots.py",
    "pictures.py": "folder.py",
    "quantise.py": "int8.py",
    "service.py": "systemd.py",
    "sheet.py": "figure.py",
    "steady.py": "smoothing.py",
    "trouble.py": "logs.py",
    "watched.py": "camera_session.py",
}
# First words of function names that end like a participle and are verbs.
VERBS = frozenset(
    {
        "bring",
        "embed",
        "exceed",
        "feed",
        "need",
        "ping",
        "proceed",
        "ring",
        "seed",
        "shed",
        "speed",
        "spread",
        "string",
        "succeed",
    }
)
IRREGULAR = frozenset(
    {
        "bound",
        "built",
        "drawn",
        "done",
        "given",
        "held",
        "kept",
        "known",
        "left",
        "made",
        "seen",
        "shown",
        "taken",
        "thrown",
        "written",
    }
)
PREPOSITIONS = frozenset({"ahead", "as", "at", "by", "for", "from", "in", "of", "to", "with"})
# Functions that keep a participle, each with its reason.
ALLOWED_FUNCTIONS: dict[str, str] = {}
# Decorators whose functions are values: their names are nouns and adjectives.
VALUE_DECORATORS = frozenset({"property", "cached_property", "fixture"})
FORMATTER_OFF = re.compile(r"#\s*fmt:\s*(skip|off|on)\b")


def main(paths: list[Path]) -> int:
    """Check every file, print what is wrong, and return the exit code."""
    findings = [finding for path in python_files(paths) for finding in check_file(path)]
    for finding in findings:
        print(finding)
    print(f"vocabulary: {len(findings)} findings", file=sys.stderr)
    return 1 if findings else 0


def python_files(paths: list[Path]) -> Iterator[Path]:
    """Yield the Python files among the paths and below them, sorted."""
    for path in paths:
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def check_file(path: Path) -> Iterator[str]:
    """Yield one line for each finding in a file."""
    if path.name in FORMER_MODULES:
        yield f"{path}:1: the module '{path.name}' is now '{FORMER_MODULES[path.name]}'"
    text = path.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        # This file names the directive in its pattern.
        if FORMATTER_OFF.search(line) and path != Path(__file__).resolve():
            yield f"{path}:{number}: let the formatter format: remove the directive"
    for node in ast.walk(ast.parse(text, str(path))):
        for name in bound_names(node):
            word = name.strip("_")
            line_number = getattr(node, "lineno", 0)
            if word in VAGUE:
                yield f"{path}:{line_number}: '{name}' could mean anything: name the thing"
            elif word in RENAMED:
                yield f"{path}:{line_number}: '{name}' is now '{RENAMED[word]}'"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_participle(node):
            yield f"{path}:{node.lineno}: '{node.name}' is a participle: a function is a verb"


def bound_names(node: ast.AST) -> Iterator[str]:
    """Yield the identifiers that a syntax node introduces."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.arg(arg=name) | ast.alias(asname=str(name)) | ast.keyword(arg=str(name)):
            yield name
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            yield name
        case ast.MatchAs(name=str(name)) | ast.ExceptHandler(name=str(name)):
            yield name


def is_participle(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a function is named by a participle alone, such as `fitted` or `fitted_as`.

    A participle that qualifies a noun, as in `training_step`, is not meant.
    """
    if function.name in ALLOWED_FUNCTIONS or decorator_names(function) & VALUE_DECORATORS:
        return False
    first, *rest = function.name.strip("_").split("_")
    ends_like_one = first.endswith(("ed", "ing")) and first not in VERBS
    return (first in IRREGULAR or ends_like_one) and PREPOSITIONS.issuperset(rest)


def decorator_names(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Return the last parts of the names of a function's decorators."""
    calls = (d.func if isinstance(d, ast.Call) else d for d in function.decorator_list)
    return {d.attr if isinstance(d, ast.Attribute) else getattr(d, "id", "") for d in calls}


if __name__ == "__main__":
    chosen_paths = [Path(word).resolve() for word in sys.argv[1:]]
    sys.exit(main(chosen_paths or [ROOT / name for name in FOLDERS if (ROOT / name).is_dir()]))
