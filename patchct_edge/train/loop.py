"""The training loop: from a dataset to a run folder."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch

from patchct_edge.datasets import Dataset
from patchct_edge.errors import UserError
from patchct_edge.progress import NO_PROGRESS, Progress
from patchct_edge.train import checkpoint
from patchct_edge.train.batches import Batches, check_trainable
from patchct_edge.train.build import build_model
from patchct_edge.train.checkpoint import RunState
from patchct_edge.train.config import TrainConfig
from patchct_edge.train.device import choose_device, move_to_device
from patchct_edge.train.model import mean_pairwise_cosine
from patchct_edge.train.trainer import Trainer, evaluate_map

logger = logging.getLogger(__name__)

MAX_PROTOTYPE_COSINE = 0.95  # mean cosine above which prototypes no longer tell labels apart


def train_model(
    dataset: Dataset,
    validation: Dataset | None,
    run: Path,
    config: TrainConfig,
    progress: Progress = NO_PROGRESS,
    *,
    device: str | None = None,
    start_from: Path | None = None,
    resume: bool = False,
) -> RunState:
    """Train a PatchCT model and leave a run folder; finished epochs are never lost.

    Args:
        dataset: training images; images without labels are negatives of every label.
        validation: images for the mAP of each epoch, with the same label set, or None.
        run: folder to write.
        config: the settings.
        progress: shows the steps of each epoch.
        device: as PyTorch names it; the GPU by default if there is one.
        start_from: run whose best weights to start from.
        resume: continue the run in `run` after its last finished epoch, with the same result as
            an uninterrupted run.

    Raises:
        UserError: the dataset, the encoder or the run cannot be used, a batch does not fit the
            memory, or the loss is not finite.
        ImageError: a photo cannot be decoded.
    """
    check_trainable(dataset)
    torch.manual_seed(config.seed)
    device = device or choose_device()
    model, state = build_model(dataset, config, start_from)
    move_to_device(model, device)
    trainer = Trainer(model, config, state.preprocessing, device)
    if resume:
        state = _resume_run(run, dataset, trainer)
    batches = Batches(dataset, state.preprocessing, config)
    val_batches = Batches(validation, state.preprocessing, config) if validation else None
    for epoch in range(state.epochs_done, config.epochs):
        start_s = time.monotonic()
        torch.manual_seed(_epoch_seed(config, epoch))  # dropout is the same after a resume
        advance = progress.stage(f"epoch {epoch + 1}", batches.steps_per_epoch)
        losses = trainer.train_epoch(batches, epoch, advance)
        val_map = None if val_batches is None else _validate(trainer, val_batches, progress)
        state = _finish_epoch(run, trainer, state, losses, val_map, start_s)
    return state


def _validate(trainer: Trainer, batches: Batches, progress: Progress) -> float | None:
    """Return the mAP of the averaged weights, 0..1; None if no label has a positive."""
    advance = progress.stage("validation", len(batches.dataset))
    val_map = evaluate_map(trainer.ema.model, batches, trainer.normalize, trainer.autocast, advance)
    return None if math.isnan(val_map) else val_map


def _finish_epoch(
    run: Path,
    trainer: Trainer,
    state: RunState,
    losses: dict[str, float],
    val_map: float | None,
    start_s: float,
) -> RunState:
    """Write the epoch that just ended, log its figures, and return the new state of the run."""
    epochs_done = state.epochs_done + 1
    # Without a val mAP the last epoch is the best.
    is_best = val_map is None or state.best_map is None or val_map > state.best_map
    state = dataclasses.replace(
        state,
        epochs_done=epochs_done,
        best_map=val_map if is_best else state.best_map,
        best_epoch=epochs_done if is_best else state.best_epoch,
    )
    ema_model = trainer.ema.model
    with torch.no_grad():
        cosine = mean_pairwise_cosine(ema_model.compute_prototypes())
    checkpoint.write_run(
        run, trainer.config, state, trainer.model, ema_model, trainer.optimizer, is_best=is_best
    )
    row = {
        "epoch": epochs_done,
        **losses,
        "val_map": val_map,
        "tau": float(ema_model.tau),
        "prototype_cosine": cosine,
        "seconds": round(time.monotonic() - start_s, 1),
    }
    checkpoint.append_metrics(run, row)
    _log_epoch(epochs_done, losses["loss"], val_map, cosine, time.monotonic() - start_s)
    return state


def _log_epoch(
    epoch: int, loss: float, val_map: float | None, cosine: float, duration_s: float
) -> None:
    map_text = "-" if val_map is None else f"{100 * val_map:.2f}"
    logger.info("epoch %d  loss %.4f  val mAP %s  %.0f s", epoch, loss, map_text, duration_s)
    if cosine > MAX_PROTOTYPE_COSINE:
        logger.warning(
            "the label prototypes have collapsed (mean cosine %.2f), so the model cannot tell "
            "labels apart; lower lr_head or ct_weight",
            cosine,
        )


def _resume_run(run: Path, dataset: Dataset, trainer: Trainer) -> RunState:
    """Restore a run's last finished epoch.

    Raises:
        UserError: the run has other settings, labels or images, or cannot be read.
    """
    config = trainer.config
    old_config, state = checkpoint.read_state(run)
    changed_names = [
        name
        for name, value in config.to_json().items()
        if name != "epochs" and value != getattr(old_config, name)
    ]
    if changed_names:
        raise UserError(
            f"cannot resume {run} with other settings",
            got=", ".join(changed_names),
            fix="keep these settings as they were, or start a new run with --from",
        )
    if state.labels != tuple(dataset.label_set):
        raise UserError(
            f"cannot resume {run} with other labels",
            got=", ".join(dataset.label_set),
            expected=", ".join(state.labels),
            fix=f"start a new run with --from {run}",
        )
    if state.data_fingerprint != dataset.fingerprint():
        raise UserError(
            f"cannot resume {run}: the dataset has changed",
            fix=f"start a new run with --from {run}",
        )
    checkpoint.restore_training(run, trainer.model, trainer.ema.model, trainer.optimizer)
    steps_per_epoch = Batches(dataset, state.preprocessing, config).steps_per_epoch
    trainer.ema.updates = state.epochs_done * steps_per_epoch
    return state


def _epoch_seed(config: TrainConfig, epoch: int) -> int:
    return int(np.random.SeedSequence((config.seed, epoch)).generate_state(1)[0])
