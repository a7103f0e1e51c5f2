"""patchct demo: go from photos to tags on handwritten digits, without a download."""

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

LIBRARIES_NEEDED = tuple(library for library in LIBRARIES if library.extra != "stream")


@dataclass(frozen=True)
class DemoSize:
    """How many scenes the demo draws, and how long it trains."""

    train_scenes: int
    val_scenes: int
    epochs: int


FULL_DEMO = DemoSize(train_scenes=12_000, val_scenes=800, epochs=5)
QUICK_DEMO = DemoSize(train_scenes=3000, val_scenes=200, epochs=4)
# A small SegFormer, 8 x 8 patches of 8 pixels. With its overlapping patches and convolutions it
# learns from scratch in minutes, which a plain ViT does not (docs/lab/experiments.md).
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
MAP_SCENES = 8  # in the picture of heat maps


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write.", metavar="DIR")] = Path("demo"),
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Use fewer scenes: done in about a minute, with a weaker model."
        ),
    ] = False,
) -> None:
    """Try everything on handwritten digits: train, export, tag unseen scenes, draw heat maps."""
    from patchct_edge.datasets.digits import make_scenes

    _check_libraries()
    _make_folder(out)
    bundle_path = out / "digits.patchct"
    size = QUICK_DEMO if quick else FULL_DEMO
    start_s = time.monotonic()

    def log_step(message: str) -> None:
        logger.info(f"[{time.monotonic() - start_s:4.0f} s] {message}")

    log_step(f"drawing {size.train_scenes} scenes to train on and {size.val_scenes} to test on")
    data_path = make_scenes(out / "data", train=size.train_scenes, val=size.val_scenes)
    epochs = "1 epoch" if size.epochs == 1 else f"{size.epochs} epochs"
    log_step(f"training a small model from scratch, {epochs}")
    _train(data_path, out, size.epochs)
    log_step("exporting FP32 and INT8 graphs, each compared with a more exact one")
    _export(out / "run", data_path, bundle_path, quick)
    log_step("tagging the test scenes with the INT8 engine")
    accuracy = _tag(bundle_path, data_path, out / "tags.jsonl")
    log_step("drawing a heat map for each tag")
    _draw_maps(bundle_path, data_path, out / "heatmaps.png")
    _print_results(accuracy, out, bundle_path, time.monotonic() - start_s)


def _check_libraries() -> None:
    """Refuse to begin without a library that is used only after minutes of training."""
    for library in LIBRARIES_NEEDED:
        if find_spec(library.module) is None:
            raise MissingLibraryError(library.name)


def _make_folder(out: Path) -> None:
    """Make the folder, and refuse one that already holds a demo."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {out}", got=error.strerror, fix="choose another --out"
        ) from None
    if (out / "run").exists():
        raise UserError(f"{out} already holds a demo", fix=f"rm -r {out}, or choose another --out")


def _train(data_path: Path, out: Path, epochs: int) -> None:
    from transformers import SegformerConfig

    from patchct_edge.train.config import parse_config
    from patchct_edge.train.data import read_training_datasets
    from patchct_edge.train.loop import train_model

    SegformerConfig(**ENCODER).save_pretrained(out / "encoder")
    config = parse_config({**SETTINGS, "image_encoder": str(out / "encoder"), "epochs": epochs})
    training, validation = read_training_datasets(
        data_path, config, labels_file=data_path.with_name("labels.txt")
    )
    with console.progress() as progress:
        train_model(training, validation, out / "run", config, progress)


def _export(run: Path, data_path: Path, bundle_path: Path, quick: bool) -> None:
    from patchct_edge.evaluation.gates import Gates
    from patchct_edge.export.export import ExportOptions
    from patchct_edge.export.quantization_images import PhotoSources

    # A model that has learned next to nothing changes its tags at the slightest difference.
    gates = Gates(max_map_drop=100, max_flips=math.inf) if quick else Gates()
    # The last epoch, not the best: the test scenes must not choose the model they measure.
    export_options = ExportOptions(("fp32", "int8"), PhotoSources(data_path), "last", gates)
    export_and_print(run, bundle_path, export_options)


def _tag(bundle_path: Path, data_path: Path, target: Path) -> Accuracy:
    from patchct_edge.evaluation.accuracy import compute_accuracy
    from patchct_edge.evaluation.predictions import predict
    from patchct_edge.runtime.tagging.tagger import Tagger
    from patchct_edge.runtime.tagging.writers import open_writer

    with Tagger.open(bundle_path, precision="int8") as tagger:
        scenes = options.read_dataset(data_path, default_split="val", labels=tagger.bundle.labels)
        with open_writer(target, "jsonl") as writer:
            for row in tagger.tag_files(scenes.paths):
                writer.write(row)
        predictions = predict(tagger.engine, tagger.bundle.preprocessing, scenes)
        return compute_accuracy(predictions, tagger.bundle.calibration("int8"))


def _draw_maps(bundle_path: Path, data_path: Path, target: Path) -> None:
    from patchct_edge.bundle import Bundle
    from patchct_edge.explain.figure import write_png
    from patchct_edge.explain.maps import explain_photo
    from patchct_edge.explain.overlay import draw_map_figure
    from patchct_edge.runtime.engines.select import EngineRequest, open_engine

    bundle = Bundle(bundle_path)
    scenes = options.read_dataset(data_path, default_split="val", labels=bundle.labels)
    # With several labels in a scene one sees that each map marks its own digit.
    samples = sorted(scenes.samples, key=lambda sample: -len(sample.labels))[:MAP_SCENES]
    request = EngineRequest(precision="int8", similarity=True, latency=True)
    with open_engine(bundle, request) as engine:
        explanations = [explain_photo(bundle, engine, sample.path) for sample in samples]
    write_png(draw_map_figure(explanations), target)


def _print_results(accuracy: Accuracy, out: Path, bundle_path: Path, seconds: float) -> None:
    low, high = console.percent(accuracy.map_low), console.percent(accuracy.map_high)
    typer.echo(
        f"INT8 engine on {accuracy.images} test scenes: mAP (mean average precision) "
        f"{console.percent(accuracy.map)} of 100, 95% interval {low}..{high}; {seconds:.0f} s"
    )
    typer.echo(f"  {out / 'data/labels.csv'}   the scenes and their labels")
    typer.echo(f"  {bundle_path}   the bundle; look inside: patchct show {bundle_path}")
    typer.echo(f"  {out / 'tags.jsonl'}   the tags of the test scenes")
    typer.echo(f"  {out / 'heatmaps.png'}   where in a scene each tag comes from")
