"""patchct train: a PatchCT from labelled photos."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from patchct_edge.cli import console, options
from patchct_edge.errors import UserError

if TYPE_CHECKING:
    from patchct_edge.datasets import Dataset
    from patchct_edge.train.config import TrainConfig

logger = logging.getLogger(__name__)


def train(
    data: options.DataPath,
    out: Annotated[Path, typer.Option(help="Run folder to write.", metavar="RUN")],
    val: Annotated[
        Path | None,
        typer.Option(help="Data set to validate on; DATA's val split, or a tenth, by default."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Label set, one a line, with a prompt after a tab; "
            "the table's or the train split's by default.",
            metavar="FILE",
        ),
    ] = None,
    images: options.Images = None,
    image_encoder: Annotated[
        str | None,
        typer.Option(
            help="Hub id or folder of the image encoder; facebook/deit-tiny-patch16-224 by default."
        ),
    ] = None,
    label_encoder: Annotated[
        str | None,
        typer.Option(
            help="'learned' (the default), an .npz table, or hub id or folder of a text encoder."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the images; 8 by default.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step; 32 by default.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of weights, order and augmentation; 0 by default.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any setting, as NAME=VALUE; --settings lists the defaults.",
            metavar="N=V",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="config.json with settings, such as a run's; none by default."),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from", help="Run whose best weights to fine-tune; none by default.", metavar="RUN"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last finished epoch of --out.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda; the GPU by default where there is one.")
    ] = None,
    settings: Annotated[
        bool,
        typer.Option(
            "--settings",
            callback=lambda wanted: _print_settings(wanted),
            is_eager=True,
            help="List every setting with its default.",
        ),
    ] = False,
) -> None:
    """Train on labelled photos; leaves a run folder for `patchct export`."""
    from patchct_edge.train import loop

    named = {
        "image_encoder": image_encoder,
        "label_encoder": label_encoder,
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
    }
    chosen = {name: value for name, value in named.items() if value is not None}
    base = _base_config(config, from_, out if resume else None)
    found = _config(base, {**chosen, **_assignments(set_ or [])})
    _check_out(out, resume)
    training, validation = _data_sets(data, val, labels, images, found)
    with console.progress() as progress:
        state = loop.train_model(
            training,
            validation,
            out,
            found,
            progress,
            device=device,
            start_from=from_,
            resume=resume,
        )
    if state.best_map is not None:
        shown = f"{state.best_map * 100:.2f} (epoch {state.best_epoch})"
        logger.info(
            f"best val mAP {shown}; patchct export {out} --out NAME.patchct --quant-data DATA"
        )


def _print_settings(wanted: bool) -> None:
    if wanted:
        from patchct_edge.train.config import list_settings

        headers = ("setting", "default", "values", "meaning")
        console.print_table(headers, list_settings(), text_columns=4)
        raise typer.Exit


def _assignments(pairs: list[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UserError("--set takes NAME=VALUE", got=pair, fix="patchct train --settings")
        found[name] = value
    return found


def _base_config(config: Path | None, start_from: Path | None, resumed: Path | None) -> Path | None:
    """Return the config.json whose values are the defaults of this run."""
    from patchct_edge.train.checkpoint import read_state

    run = resumed or start_from
    if run is not None:
        read_state(run)  # says what to do where it is no run
    return config or (run / "config.json" if run else None)


def _config(base: Path | None, values: dict[str, Any]) -> TrainConfig:
    from patchct_edge.train.config import parse_config, read_config

    return read_config(base, values) if base else parse_config(values, "command line")


def _check_out(out: Path, resume: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UserError("--out is a file", got=out, expected="a folder, or a name for one")
    if not resume and (out / "run.json").exists():
        raise UserError(
            f"{out} already holds a run",
            fix=f"--resume to go on with it, or another --out (or delete it: rm -r {out})",
        )


def _data_sets(
    source: Path, val: Path | None, labels: Path | None, images: Path | None, config: TrainConfig
) -> tuple[Dataset, Dataset]:
    from patchct_edge.datasets import (
        read_all_splits,
        read_labels_file,
        select_split,
        split_off_validation,
    )
    from patchct_edge.train.encoders.labels import read_table_names

    names: tuple[str, ...] | None = None
    prompts: dict[str, str] = {}
    if labels is not None:
        names, prompts = read_labels_file(labels)
    elif config.label_encoder.endswith(".npz"):
        names = tuple(read_table_names(Path(config.label_encoder)))
    whole = read_all_splits(source, images)
    training = options.log_warnings(select_split(whole, prefer="train", labels=names))
    names = training.label_set
    if val is not None:
        validation = options.read_dataset(val, prefer="val", labels=names, images=images)
    elif whole.has_split("val"):
        validation = select_split(whole, prefer="val", labels=names)
    else:
        training, validation = split_off_validation(training)
        logger.warning(
            f"there is no val split: {len(validation)} images, drawn at random, are held out"
        )
    return dataclasses.replace(training, prompts=prompts), validation
