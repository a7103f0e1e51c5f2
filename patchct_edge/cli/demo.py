"""patchct demo: the whole path on real handwriting, no download."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from patchct_edge.cli import console, options
from patchct_edge.cli.doctor import LIBRARIES
from patchct_edge.cli.export import export_and_print
from patchct_edge.errors import MissingLibraryError, UserError

if TYPE_CHECKING:
    from patchct_edge.evaluation.accuracy import Accuracy

logger = logging.getLogger(__name__)

NEEDED = tuple(library for library in LIBRARIES if library.extra != "stream")


@dataclass(frozen=True)
class Size:
    """How much of everything the demo makes."""

    train: int
    val: int
    epochs: int


FULL = Size(train=12_000, val=800, epochs=5)
QUICK = Size(train=600, val=120, epochs=1)
# A small SegFormer: a transformer whose overlapping patches and convolutions learn to see from
# scratch in minutes, which a plain ViT does not (docs/experiments.md). 8 x 8 patches of 8 pixels.
ENCODER: dict[str, Any] = {
    "num_encoder_blocks": 2,
    "depths": [2, 2],
    "sr_ratios": [2, 1],
    "hidden_sizes": [48, 96],
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "num_attention_heads": [2, 4],
    "mlp_ratios": [4, 4],
    "drop_path_rate": 0.0,
    "image_size": 64,
}
SETTINGS: dict[str, Any] = {
    "pretrained": False,
    "dim": 128,
    "batch_size": 32,
    "lr_backbone": 1.5e-3,
    "lr_head": 1.5e-3,
    "layer_decay": 1.0,
    "warmup": 0.1,
    "ct_weight": 0.05,
    "crop_scale": 1.0,
    "flip": False,
    "precision": "fp32",
}
SHEET = 8  # scenes in the picture


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write.", metavar="DIR")] = Path("demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Go through all steps in a minute; learns little.")
    ] = False,
) -> None:
    """Make scenes of handwritten digits, train, export, tag unseen scenes, draw heat maps."""
    from patchct_edge.datasets.digits import make_scenes

    _check_libraries()
    _check_out(out)
    bundle = out / "digits.patchct"
    size = QUICK if quick else FULL
    step = _Steps()
    step(f"drawing {size.train} training and {size.val} unseen scenes of handwritten digits")
    data = make_scenes(out / "data", train=size.train, val=size.val)
    step(f"training a small PatchCT from scratch, {size.epochs} epochs")
    _train(data, out, size)
    step("exporting FP32 and INT8, each stage compared with the one before")
    _export(out / "run", data, bundle, quick)
    step("tagging the unseen scenes with the INT8 engine")
    result = _tag(bundle, data, out / "tags.jsonl")
    step("drawing a heat map for each tag")
    _draw(bundle, data, out / "heatmaps.png")
    _say(result, out, bundle, step.seconds())


def _check_libraries() -> None:
    """Refuse to begin where a library is missing: the last is needed after the training only."""
    for library in NEEDED:
        if find_spec(library.module) is None:
            raise MissingLibraryError(library.name)


def _check_out(out: Path) -> None:
    """Make the folder, and refuse one that holds a demo."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {out}", got=error.strerror, fix="another --out"
        ) from None
    if (out / "run").exists():
        raise UserError(f"{out} already holds a demo", fix=f"rm -r {out}, or another --out")


class _Steps:
    """Says what begins, and when."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def __call__(self, message: str) -> None:
        logger.info(f"[{self.seconds():4.0f} s] {message}")


def _train(data: Path, out: Path, size: Size) -> None:
    from transformers import SegformerConfig

    from patchct_edge.datasets import read_labels_file
    from patchct_edge.train.config import parse_config
    from patchct_edge.train.loop import train_model

    SegformerConfig(**ENCODER).save_pretrained(out / "encoder")
    config = parse_config(
        {**SETTINGS, "image_encoder": str(out / "encoder"), "epochs": size.epochs}
    )
    labels, prompts = read_labels_file(data.with_name("labels.txt"))
    training, validation = (
        options.read_dataset(data, prefer=split, labels=labels, prompts=prompts)
        for split in ("train", "val")
    )
    with console.progress() as progress:
        train_model(training, validation, out / "run", config, progress)


def _export(run: Path, data: Path, bundle: Path, quick: bool) -> None:
    from patchct_edge.evaluation.gates import Gates
    from patchct_edge.export.export import ExportOptions
    from patchct_edge.export.quantization_images import PhotoSources

    # A model that has learnt next to nothing flips tags at the slightest touch.
    gates = Gates(max_map_drop=100, max_flips=math.inf) if quick else Gates()
    # The last epoch, not the best: no scene may choose what it then judges.
    choice = ExportOptions(("fp32", "int8"), PhotoSources(data), "last", gates)
    export_and_print(run, bundle, choice, lambda message: None)


def _tag(bundle: Path, data: Path, target: Path) -> Accuracy:
    from patchct_edge.evaluation.accuracy import compute_accuracy
    from patchct_edge.evaluation.predictions import predict
    from patchct_edge.runtime.tagging.tagger import Tagger
    from patchct_edge.runtime.tagging.writers import open_writer

    with Tagger.open(bundle, precision="int8") as tagger:
        scenes = options.read_dataset(data, prefer="val", labels=tagger.bundle.labels)
        with open_writer(target, "jsonl") as sink:
            for row in tagger.tag_files(scenes.paths):
                sink.write(row)
        calibration = tagger.bundle.calibration("int8")
        found = predict(tagger.engine, tagger.bundle.preprocessing, scenes)
        return compute_accuracy(found, calibration)


def _draw(bundle: Path, data: Path, target: Path) -> None:
    from patchct_edge.bundle import Bundle
    from patchct_edge.explain.figure import write_png
    from patchct_edge.explain.maps import explain_photo
    from patchct_edge.explain.overlay import draw_map_figure
    from patchct_edge.runtime.engines.select import EngineRequest, open_engine

    opened = Bundle(bundle)
    scenes = options.read_dataset(data, prefer="val", labels=opened.labels)
    # Scenes with several labels show best that each map finds its own digit.
    crowded = sorted(scenes.samples, key=lambda sample: -len(sample.labels))[:SHEET]
    with open_engine(
        opened, EngineRequest(precision="int8", similarity=True, latency=True)
    ) as engine:
        pictures = [explain_photo(opened, engine, sample.path) for sample in crowded]
    write_png(draw_map_figure(pictures), target)


def _say(result: Accuracy, out: Path, bundle: Path, seconds: float) -> None:
    low, high = console.percent(result.map_low), console.percent(result.map_high)
    typer.echo(
        f"INT8 engine on {result.images} unseen scenes: mAP {console.percent(result.map)} "
        f"(95 % interval {low}..{high}), {seconds:.0f} s in all"
    )
    typer.echo(f"  {out / 'data/labels.csv'}   the scenes and their labels")
    typer.echo(f"  {bundle}   the bundle: patchct show {bundle}")
    typer.echo(f"  {out / 'tags.jsonl'}   the tags of the unseen scenes")
    typer.echo(f"  {out / 'heatmaps.png'}   where each tag comes from")
