"""The run folder: what is in it, how it is written and read. JSON and safetensors, never pickle.

config.json               the settings
run.json                  labels, prompts, preprocessing, data fingerprint, epochs done, best mAP
image_encoder/config.json architecture of the image encoder (text_encoder/ where one trains)
best.safetensors          averaged weights of the epoch with the best val mAP
last.safetensors          averaged weights of the last finished epoch
state.safetensors         raw weights and optimiser state, for --resume
metrics.jsonl, .csv       one row an epoch
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from patchct_edge.bundle import Preprocessing
from patchct_edge.errors import UserError
from patchct_edge.files import write_atomically
from patchct_edge.train.config import TrainConfig, read_config
from patchct_edge.train.encoders.image import ImageEncoder
from patchct_edge.train.encoders.labels import FixedLabels, LearnedLabels, TextLabels
from patchct_edge.train.model import PatchCT


@dataclass(frozen=True)
class RunState:
    """Everything of a run that is neither a setting nor a tensor."""

    labels: tuple[str, ...]
    prompts: tuple[str, ...]
    preprocessing: Preprocessing
    data_fingerprint: str
    epochs_done: int = 0
    best_map: float | None = None
    best_epoch: int = 0


def write_run(
    run: Path,
    config: TrainConfig,
    state: RunState,
    model: PatchCT,
    averaged: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    best: bool,
) -> None:
    """Write a finished epoch: all files aside, then renamed in one go, `run.json` last."""
    run.mkdir(parents=True, exist_ok=True)
    _write_json(run / "config.json", config.to_json())
    model.image.model.config.save_pretrained(run / "image_encoder")
    if isinstance(model.labels, TextLabels):
        model.labels.model.config.save_pretrained(run / "text_encoder")
    weights = dict(averaged.state_dict())
    files = {"last": weights, "state": _training_state(model, optimiser)}
    if best:
        files["best"] = weights
    try:
        for name, tensors in files.items():
            _save(tensors, run / f"{name}.tmp", state.epochs_done)
    except BaseException:
        for name in files:
            (run / f"{name}.tmp").unlink(missing_ok=True)  # room for the rest of the run
        raise
    for name in files:
        os.replace(run / f"{name}.tmp", run / f"{name}.safetensors")
    _write_json(run / "run.json", {**asdict(state), "preprocessing": state.preprocessing.to_json()})


def read_state(run: Path) -> tuple[TrainConfig, RunState]:
    """Read a run's settings and state.

    Raises:
        UserError: the folder holds no finished epoch.
    """
    path = run / "run.json"
    if not path.is_file():
        raise UserError(
            f"no finished epoch in {run}" if run.is_dir() else f"no such run: {run}",
            expected="a folder that `patchct train` wrote",
            fix=f"patchct train DATA --out {run}",
        )
    try:
        found = json.loads(path.read_text("utf-8"))
        found["preprocessing"] = Preprocessing.from_json(found["preprocessing"])
        found.update({name: tuple(found[name]) for name in ("labels", "prompts")})
        state = RunState(**found)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"cannot read {path}", got=repr(error)) from None
    return read_config(run / "config.json", {}), state


def load_model(run: Path, which: str = "best") -> tuple[PatchCT, RunState]:
    """Rebuild the model of a run from its own folder; `which` is `best` or `last`.

    Raises:
        UserError: the folder is no run, or the weights do not fit its settings.
    """
    config, state = read_state(run)
    weights = load_weights(run / f"{which}.safetensors")
    architecture = AutoConfig.from_pretrained(run / "image_encoder")
    image = ImageEncoder(AutoModel.from_config(architecture), config.layers)
    model = PatchCT(image, _labels_like(run, config, weights), weights["label_mean"], config)
    fit_weights(model, weights, run)
    return model.eval(), state


def fit_weights(model: nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Load weights into a model; a UserError lists what does not fit."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"the weights of {source} do not fit the model", got=error) from None


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; a UserError where it is missing or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {path}", got=error) from None


def resume(
    run: Path, model: PatchCT, averaged: nn.Module, optimiser: torch.optim.Optimizer
) -> None:
    """Restore raw weights, averaged weights and optimiser state of the last finished epoch.

    Raises:
        UserError: a file is damaged, or is not of the epoch that `run.json` names.
    """
    epoch = read_state(run)[1].epochs_done
    state, last = (_of_epoch(run / f"{name}.safetensors", epoch) for name in ("state", "last"))
    prefix = "model."
    weights = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
    fit_weights(model, weights, run)
    fit_weights(averaged, last, run)
    for n, parameter in enumerate(_parameters(optimiser)):
        keys = [k for k in state if k.startswith(f"optimiser.{n}.")]
        optimiser.state[parameter] = {
            key.rsplit(".", 1)[1]: state[key].to(parameter.device)
            if not key.endswith(".step")
            else state[key]
            for key in keys
        }


def _of_epoch(path: Path, epoch: int) -> dict[str, Tensor]:
    weights = load_weights(path)  # says what is wrong with a damaged file
    with safe_open(path, "pt") as file:
        found = (file.metadata() or {}).get("epoch")
    if found != str(epoch):
        raise UserError(
            f"{path} is not of the last finished epoch: a write was cut off",
            got=f"epoch {found}",
            expected=f"epoch {epoch}",
            fix=f"start a new run with --from {path.parent}",
        )
    return weights


def append_metrics(run: Path, row: Mapping[str, Any]) -> None:
    """Add an epoch's row to metrics.jsonl and rewrite metrics.csv from it."""
    path = run / "metrics.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    # A resumed epoch replaces the row of the one that did not finish.
    rows = [old for old in rows if old["epoch"] < row["epoch"]] + [dict(row)]
    write_atomically(path, "".join(json.dumps(r) + "\n" for r in rows).encode())
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(row), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(run / "metrics.csv", table.getvalue().encode())


def _labels_like(run: Path, config: TrainConfig, weights: Mapping[str, Tensor]) -> nn.Module:
    if "labels.input_ids" in weights:
        model = AutoModel.from_config(AutoConfig.from_pretrained(run / "text_encoder"))
        return TextLabels(model, weights["labels.input_ids"], weights["labels.attention_mask"])
    embeddings = weights["labels.embeddings"]
    if config.label_encoder == "learned":
        return LearnedLabels(*embeddings.shape)
    return FixedLabels(torch.zeros_like(embeddings))


def _training_state(model: PatchCT, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for n, parameter in enumerate(_parameters(optimiser)):
        for name, value in optimiser.state[parameter].items():
            tensors[f"optimiser.{n}.{name}"] = value
    return tensors


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _save(tensors: Mapping[str, Tensor], path: Path, epoch: int) -> None:
    """Write tensors; the copies make those that share memory storable."""
    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    try:
        save_file(own, path, metadata={"epoch": str(epoch)})
    except SafetensorError as error:  # in the place of an OSError
        raise UserError(
            f"cannot write {path}", got=error, fix="make room, then go on with --resume"
        ) from None


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
