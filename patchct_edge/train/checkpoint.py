"""The run folder: its files, how they are written and read. JSON and safetensors, never pickle.

config.json               the settings
run.json                  labels, prompts, preprocessing, data fingerprint, epochs done, best mAP
image_encoder/config.json architecture of the image encoder (and text_encoder/, if it is trained)
best.safetensors          averaged weights of the epoch with the best val mAP
last.safetensors          averaged weights of the last finished epoch
state.safetensors         weights before averaging, and optimizer state, for --resume
metrics.jsonl, .csv       one row per epoch
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
from patchct_edge.train.encoders.labels import (
    FixedLabelEncoder,
    LearnedLabelEncoder,
    TextLabelEncoder,
)
from patchct_edge.train.model import PatchCT


@dataclass(frozen=True)
class RunState:
    """The facts of a run that are neither settings nor tensors, as `run.json` holds them.

    `best_map` is the validation mAP (mean average precision, 0..1) of epoch `best_epoch`, counted
    from 1; None without labeled validation images.
    """

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
    ema_model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    is_best: bool,
) -> None:
    """Write a finished epoch: all files under temporary names, then renamed, `run.json` last.

    Raises:
        UserError: a file cannot be written; the epoch before is untouched.
    """
    run.mkdir(parents=True, exist_ok=True)
    _write_json(run / "config.json", config.to_json())
    model.image.model.config.save_pretrained(run / "image_encoder")
    if isinstance(model.labels, TextLabelEncoder):
        model.labels.model.config.save_pretrained(run / "text_encoder")
    weights = dict(ema_model.state_dict())
    files = {"last": weights, "state": _collect_training_state(model, optimizer)}
    if is_best:
        files["best"] = weights
    try:
        for name, tensors in files.items():
            _write_tensors(tensors, run / f"{name}.tmp", state.epochs_done)
    except BaseException:
        for name in files:
            (run / f"{name}.tmp").unlink(missing_ok=True)  # free the space
        raise
    for name in files:
        os.replace(run / f"{name}.tmp", run / f"{name}.safetensors")
    _write_json(run / "run.json", {**asdict(state), "preprocessing": state.preprocessing.to_json()})


def read_state(run: Path) -> tuple[TrainConfig, RunState]:
    """Read a run's settings and state.

    Raises:
        UserError: the folder has no finished epoch, or a file of it cannot be read.
    """
    path = run / "run.json"
    if not path.is_file():
        raise UserError(
            f"no finished epoch in {run}" if run.is_dir() else f"no such run: {run}",
            expected="a folder that `patchct train` wrote",
            fix=f"patchct train DATA --out {run}",
        )
    try:
        values = json.loads(path.read_text("utf-8"))
        values["preprocessing"] = Preprocessing.from_json(values["preprocessing"])
        values.update({name: tuple(values[name]) for name in ("labels", "prompts")})
        state = RunState(**values)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"cannot read {path}", got=repr(error)) from None
    return read_config(run / "config.json", {}), state


def load_model(run: Path, checkpoint: str = "best") -> tuple[PatchCT, RunState]:
    """Rebuild the model of a run from its folder; `checkpoint` is `best` or `last`.

    Raises:
        UserError: the folder is not a run, or the weights do not fit its settings.
    """
    config, state = read_state(run)
    weights = read_weights(run / f"{checkpoint}.safetensors")
    architecture = AutoConfig.from_pretrained(run / "image_encoder")
    image = ImageEncoder(AutoModel.from_config(architecture), config.layers)
    model = PatchCT(
        image, _create_label_encoder(run, config, weights), weights["label_mean"], config
    )
    load_weights_into(model, weights, run)
    return model.eval(), state


def load_weights_into(model: nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Load weights into a model.

    Raises:
        UserError: the weights do not fit; the tensors that do not are listed.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"the weights of {source} do not fit the model", got=error) from None


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {path}", got=error) from None


def restore_training(
    run: Path, model: PatchCT, ema_model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Restore weights, averaged weights and optimizer state of the last finished epoch.

    Raises:
        UserError: a file is damaged, or belongs to another epoch than `run.json` names.
    """
    epoch = read_state(run)[1].epochs_done
    state, last = (
        _read_weights_of_epoch(run / f"{name}.safetensors", epoch) for name in ("state", "last")
    )
    prefix = "model."
    weights = {key[len(prefix) :]: t for key, t in state.items() if key.startswith(prefix)}
    load_weights_into(model, weights, run)
    load_weights_into(ema_model, last, run)
    for n, parameter in enumerate(_list_parameters(optimizer)):
        prefix = f"optimizer.{n}."
        moments = {key[len(prefix) :]: t for key, t in state.items() if key.startswith(prefix)}
        optimizer.state[parameter] = {
            name: tensor if name == "step" else tensor.to(parameter.device)
            for name, tensor in moments.items()
        }


def _read_weights_of_epoch(path: Path, epoch: int) -> dict[str, Tensor]:
    weights = read_weights(path)  # first, for its clear error about a damaged file
    with safe_open(path, "pt") as file:
        stored_epoch = (file.metadata() or {}).get("epoch")
    if stored_epoch != str(epoch):
        raise UserError(
            f"{path} is not of the last finished epoch: writing it was interrupted",
            got=f"epoch {stored_epoch}",
            expected=f"epoch {epoch}",
            fix=f"start a new run with --from {path.parent}",
        )
    return weights


def append_metrics(run: Path, row: Mapping[str, Any]) -> None:
    """Add the row of an epoch to metrics.jsonl, and rewrite metrics.csv from it."""
    path = run / "metrics.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    # Rows of this epoch and later ones are left from a run that did not finish them.
    rows = [earlier for earlier in rows if earlier["epoch"] < row["epoch"]] + [dict(row)]
    write_atomically(path, "".join(json.dumps(r) + "\n" for r in rows).encode())
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(row), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(run / "metrics.csv", table.getvalue().encode())


def _create_label_encoder(
    run: Path, config: TrainConfig, weights: Mapping[str, Tensor]
) -> nn.Module:
    """Create the label encoder that the weights belong to; its values are not loaded yet."""
    if "labels.input_ids" in weights:
        model = AutoModel.from_config(AutoConfig.from_pretrained(run / "text_encoder"))
        return TextLabelEncoder(
            model, weights["labels.input_ids"], weights["labels.attention_mask"]
        )
    embeddings = weights["labels.embeddings"]
    if config.label_encoder == "learned":
        return LearnedLabelEncoder(*embeddings.shape)
    return FixedLabelEncoder(torch.zeros_like(embeddings))


def _collect_training_state(model: PatchCT, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for n, parameter in enumerate(_list_parameters(optimizer)):
        for name, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{n}.{name}"] = value
    return tensors


def _list_parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _write_tensors(tensors: Mapping[str, Tensor], path: Path, epoch: int) -> None:
    """Write tensors; they are copied because safetensors refuses those that share memory."""
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    try:
        save_file(copies, path, metadata={"epoch": str(epoch)})
    except SafetensorError as error:  # safetensors raises it in place of an OSError
        raise UserError(
            f"cannot write {path}",
            got=error,
            fix="free some disk space, then continue with --resume",
        ) from None


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
