"""patchct train: train a PatchCT model on labeled photos."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from patchct_edge.cli import console, options
from patchct_edge.errors import UserError

if TYPE_CHECKING:
    from patchct_edge.train.config import TrainConfig

logger = logging.getLogger(__name__)


def train(
    data_path: options.DataPath,
    out: Annotated[Path, typer.Option(help="Run folder to write.", metavar="RUN")],
    val: Annotated[
        Path | None,
        typer.Option(
            help="Dataset to validate on; by default DATA's val split, or a tenth of DATA.",
            metavar="DATA",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="File of labels: one per line, optionally followed by a tab and a prompt; by "
            "default the labels of the .npz table, or of the train split.",
            metavar="FILE",
        ),
    ] = None,
    images: options.Images = None,
    image_encoder: Annotated[
        str | None,
        typer.Option(
            help="Image encoder: Hugging Face id or folder; "
            "facebook/deit-tiny-patch16-224 by default."
        ),
    ] = None,
    label_encoder: Annotated[
        str | None,
        typer.Option(
            help="'learned' (the default), an .npz table of label embeddings, or the "
            "Hugging Face id or folder of a text encoder."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the images; 8 by default.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step; 32 by default.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of weights, image order and augmentation; 0 by default."),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Set any setting; repeatable; --settings lists all with their defaults.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="JSON file of settings, such as the config.json of a run; none by default.",
            metavar="FILE",
        ),
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Run to start from, with its best weights; none by default.",
            metavar="RUN",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out after its last epoch.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda; by default the GPU, if there is one.")
    ] = None,
    settings: Annotated[
        bool,
        typer.Option(
            "--settings",
            callback=lambda requested: _print_settings(requested),
            is_eager=True,
            help="List every setting with its default, values and meaning, and exit.",
        ),
    ] = False,
) -> None:
    """Train a model on labeled photos; writes a run folder for patchct export."""
    from patchct_edge.train.data import read_training_datasets
    from patchct_edge.train.loop import train_model

    values = {
        "image_encoder": image_encoder,
        "label_encoder": label_encoder,
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
    }
    values = {name: value for name, value in values.items() if value is not None}
    values |= _parse_assignments(assignments or [])
    train_config = _read_config(config, start_from, out if resume else None, values)
    _check_run_folder(out, resume)
    training, validation = read_training_datasets(
        data_path, train_config, val_path=val, labels_file=labels, image_folder=images
    )
    with console.progress() as progress:
        state = train_model(
            training,
            validation,
            out,
            train_config,
            progress,
            device=device,
            start_from=start_from,
            resume=resume,
        )
    if state.best_map is not None:
        logger.info(
            f"best val mAP {console.percent(state.best_map)} (epoch {state.best_epoch}); "
            f"next: patchct export {out} --out NAME.patchct --quant-data {data_path}"
        )


def _print_settings(requested: bool) -> None:
    if requested:
        from patchct_edge.train.config import list_settings

        headers = ("setting", "default", "values", "meaning")
        console.print_table(headers, list_settings(), text_columns=4)
        raise typer.Exit


def _parse_assignments(assignments: list[str]) -> dict[str, str]:
    values = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise UserError(
                "--set takes NAME=VALUE", got=assignment, fix="patchct train --settings"
            )
        values[name] = value
    return values


def _read_config(
    path: Path | None, start_from: Path | None, resumed_run: Path | None, values: dict[str, Any]
) -> TrainConfig:
    """Read the settings: `values`, over those of a file, over those of a run, over the defaults."""
    from patchct_edge.train.checkpoint import read_state
    from patchct_edge.train.config import parse_config, read_config

    run = resumed_run or start_from
    if run is not None:
        read_state(run)  # raises an error that helps if it is not a run
        path = path or run / "config.json"
    return parse_config(values, "command line") if path is None else read_config(path, values)


def _check_run_folder(out: Path, resume: bool) -> None:
    """Refuse to write over a file, or over a run that is not resumed."""
    if out.exists() and not out.is_dir():
        raise UserError("--out is a file", got=out, expected="a folder, or the name of a new one")
    if not resume and (out / "run.json").exists():
        raise UserError(
            f"{out} already holds a run",
            fix=f"--resume to continue it, or choose another --out (or delete it: rm -r {out})",
        )
