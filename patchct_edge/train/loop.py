"""The training loop: from a data set to a run folder."""

from __future__ import annotations

import dataclasses
import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from patchct_edge.datasets import Dataset
from patchct_edge.errors import UserError
from patchct_edge.metrics import mean_average_precision
from patchct_edge.train import checkpoint
from patchct_edge.train.batches import Batch, Batches, check_trainable
from patchct_edge.train.build import build_model
from patchct_edge.train.checkpoint import RunState
from patchct_edge.train.config import TrainConfig
from patchct_edge.train.device import Autocast, Normalize, autocast_for
from patchct_edge.train.encoders.image import Tokens
from patchct_edge.train.model import PatchCT, prototype_cosine
from patchct_edge.train.optimizer import EMA, adamw, set_learning_rates

COLLAPSED = 0.95  # mean cosine between prototypes above which they no longer tell labels apart


class Progress(Protocol):
    """What a caller may show while training runs."""

    def step(self, epoch: int, done: int, steps: int, loss: float) -> None: ...

    def epoch(self, row: dict[str, float | int | None]) -> None: ...

    def note(self, message: str) -> None: ...


def train_model(
    data: Dataset,
    validation: Dataset | None,
    run: Path,
    config: TrainConfig,
    progress: Progress,
    *,
    device: str | None = None,
    start_from: Path | None = None,
    resume: bool = False,
) -> RunState:
    """Train a PatchCT and leave a run folder; a finished epoch is never lost.

    Args:
        data: training images; images without labels are used as negatives of every label.
        validation: images for the mAP of each epoch, with the same label set, or None.
        start_from: run whose best weights to start from.
        resume: continue the run in `run` after its last finished epoch, as if never stopped.

    Raises:
        UserError: data, encoder or run that cannot be used; a batch that does not fit the memory.
    """
    check_trainable(data)
    torch.manual_seed(config.seed)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model, state = build_model(data, config, start_from)
    _move(model, device)
    optimiser = adamw(model, config)
    averaged = EMA(model, config.ema_decay)
    if resume:
        state = _resumed(run, data, config, model, averaged, optimiser)
    batches = Batches(data, state.preprocessing, config)
    val_batches = Batches(validation, state.preprocessing, config) if validation else None
    pixels = Normalize(state.preprocessing, device)
    autocast = autocast_for(model, config, device)
    for epoch in range(state.epochs_done, config.epochs):
        torch.manual_seed(_epoch_seed(config, epoch))  # dropout, the same after a resume
        began = time.monotonic()
        losses = _train_epoch(
            model, averaged, optimiser, batches, pixels, autocast, config, epoch, progress
        )
        val_map = None
        if val_batches is not None:
            figure = evaluate_map(averaged.model, val_batches, pixels, autocast)
            val_map = None if math.isnan(figure) else figure
        best = val_map is None or state.best_map is None or val_map > state.best_map
        state = dataclasses.replace(
            state,
            epochs_done=epoch + 1,
            best_map=val_map if best else state.best_map,
            best_epoch=epoch + 1 if best else state.best_epoch,
        )
        with torch.no_grad():
            cosine = prototype_cosine(averaged.model.prototypes())
        checkpoint.write_run(run, config, state, model, averaged.model, optimiser, best=best)
        row = {
            "epoch": epoch + 1,
            **losses,
            "val_map": val_map,
            "tau": float(averaged.model.tau),
            "prototype_cosine": cosine,
            "seconds": round(time.monotonic() - began, 1),
        }
        checkpoint.append_metrics(run, row)
        progress.epoch(row)
        if cosine > COLLAPSED:
            progress.note(
                f"the label prototypes have collapsed (mean cosine {cosine:.2f}): "
                "labels cannot be told apart; lower lr_head or ct_weight"
            )
    return state


@torch.inference_mode()
def evaluate_map(
    model: PatchCT, batches: Batches, pixels: Normalize, autocast: Autocast = nullcontext
) -> float:
    """Return the mAP of a model over a data set, NaN where no label has a positive."""
    model.eval()
    prototypes = model.prototypes()
    logits = []
    for batch in batches.plain():
        with autocast():
            tokens = model.image(pixels(batch.images))
        logits.append(model.score(tokens, prototypes).logits.cpu().numpy())
    return mean_average_precision(
        np.concatenate(logits), batches.targets.numpy(), batches.ignored.numpy()
    )


def _train_epoch(
    model: PatchCT,
    averaged: EMA,
    optimiser: torch.optim.Optimizer,
    batches: Batches,
    pixels: Normalize,
    autocast: Autocast,
    config: TrainConfig,
    epoch: int,
    progress: Progress,
) -> dict[str, float]:
    model.train()
    steps = batches.steps()
    sums = np.zeros(3)
    for done, batch in enumerate(batches.train(epoch)):
        set_learning_rates(optimiser, epoch * steps + done, config.epochs * steps, config.warmup)
        try:
            losses = _step(model, optimiser, batch, pixels, autocast, config)
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(
                error
            ):
                raise
            raise UserError(
                "out of memory",
                got=f"batch_size={config.batch_size}",
                fix=f"--batch-size {max(1, config.batch_size // 2)}",
            ) from None
        averaged.update(model)
        sums += losses
        if not math.isfinite(losses[0]):
            raise UserError(
                f"the loss is not finite at epoch {epoch + 1}, step {done + 1}",
                got=losses[0],
                fix="lower lr_head and lr_backbone, or try precision=fp32",
            )
        progress.step(epoch, done + 1, steps, float(sums[0] / (done + 1)))
    names = ("loss", "loss_asymmetric", "loss_transport")
    return {name: float(value / steps) for name, value in zip(names, sums, strict=True)}


def _step(
    model: PatchCT,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    pixels: Normalize,
    autocast: Autocast,
    config: TrainConfig,
) -> tuple[float, float, float]:
    with autocast():
        tokens = model.image(pixels(batch.images))
    return training_step(model, optimiser, tokens, batch, config.grad_clip)


def training_step(
    model: PatchCT, optimiser: torch.optim.Optimizer, tokens: Tokens, batch: Batch, clip: float
) -> tuple[float, float, float]:
    """Make one step down the gradient; return the loss and its parts before it."""
    optimiser.zero_grad(set_to_none=True)
    device = tokens.cls.device
    scores = model.score(tokens, model.prototypes())
    losses = model.loss(scores, batch.targets.to(device), batch.ignored.to(device))
    losses.total.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimiser.step()
    model.hold_tau()
    parts = (losses.total, losses.asymmetric, losses.transport)
    total, asymmetric, transport = (float(part.detach()) for part in parts)
    return total, asymmetric, transport


def _move(model: PatchCT, device: str) -> None:
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            "the device cannot be used",
            got=f"{device} ({str(error).splitlines()[0]})",
            expected="cpu" + (" or cuda" if torch.cuda.is_available() else ""),
        ) from None


def _resumed(
    run: Path,
    data: Dataset,
    config: TrainConfig,
    model: PatchCT,
    averaged: EMA,
    optimiser: torch.optim.Optimizer,
) -> RunState:
    saved, state = checkpoint.read_state(run)
    changed = [
        name
        for name, value in config.to_json().items()
        if name != "epochs" and value != getattr(saved, name)
    ]
    if changed:
        raise UserError(
            f"cannot resume {run} with other settings",
            got=", ".join(changed),
            fix="leave them as they were, or start a new run with --from",
        )
    if state.labels != tuple(data.label_set):
        raise UserError(
            f"cannot resume {run} with other labels",
            got=", ".join(data.label_set),
            expected=", ".join(state.labels),
            fix=f"start a new run with --from {run}",
        )
    if state.data_fingerprint != data.fingerprint():
        raise UserError(
            f"cannot resume {run}: the data set has changed",
            fix=f"start a new run with --from {run}",
        )
    checkpoint.resume(run, model, averaged.model, optimiser)
    averaged.updates = state.epochs_done * Batches(data, state.preprocessing, config).steps()
    return state


def _epoch_seed(config: TrainConfig, epoch: int) -> int:
    return int(np.random.SeedSequence((config.seed, epoch)).generate_state(1)[0])
