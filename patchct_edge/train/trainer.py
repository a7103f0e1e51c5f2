"""One model in training: an epoch of steps, and the mAP after it."""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np
import torch

from patchct_edge.bundle import Preprocessing
from patchct_edge.errors import UserError
from patchct_edge.metrics import mean_average_precision
from patchct_edge.progress import Advance, ignore_progress
from patchct_edge.train.batches import Batch, Batches
from patchct_edge.train.config import TrainConfig
from patchct_edge.train.device import Autocast, Normalize, choose_autocast
from patchct_edge.train.encoders.image import Tokens
from patchct_edge.train.model import PatchCT
from patchct_edge.train.optimizer import EMA, create_optimizer, set_learning_rates


class Trainer:
    """A model with its optimizer, its averaged weights, and the way a batch takes to it."""

    def __init__(
        self, model: PatchCT, config: TrainConfig, preprocessing: Preprocessing, device: str
    ) -> None:
        self.model, self.config = model, config
        self.optimizer = create_optimizer(model, config)
        self.ema = EMA(model, config.ema_decay)
        self.normalize = Normalize(preprocessing, device)
        self.autocast = choose_autocast(model, config, device)

    def train_epoch(self, batches: Batches, epoch: int, advance: Advance) -> dict[str, float]:
        """Train on every batch of an epoch, counted from 0; return the mean of each loss.

        Raises:
            UserError: a batch does not fit the memory, or the loss is not finite.
        """
        self.model.train()
        config, steps = self.config, batches.steps_per_epoch
        sums = np.zeros(3)
        for step, batch in enumerate(batches.iter_training(epoch)):
            set_learning_rates(
                self.optimizer, epoch * steps + step, config.epochs * steps, config.warmup
            )
            losses = self._train_on(batch)
            if not math.isfinite(losses[0]):
                raise UserError(
                    f"the loss is not finite at epoch {epoch + 1}, step {step + 1}",
                    got=losses[0],
                    fix="lower lr_head and lr_backbone, or try precision=fp32",
                )
            self.ema.update(self.model)
            sums += losses
            advance(step + 1, f"loss {sums[0] / (step + 1):.4f}")
        names = ("loss", "loss_asymmetric", "loss_transport")
        return {name: float(total / steps) for name, total in zip(names, sums, strict=True)}

    def _train_on(self, batch: Batch) -> tuple[float, float, float]:
        try:
            with self.autocast():
                tokens = self.model.image(self.normalize(batch.images))
            return training_step(self.model, self.optimizer, tokens, batch, self.config.grad_clip)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            raise UserError(
                "out of memory",
                got=f"batch_size={self.config.batch_size}",
                fix=f"--batch-size {max(1, self.config.batch_size // 2)}",
            ) from None


def training_step(
    model: PatchCT, optimizer: torch.optim.Optimizer, tokens: Tokens, batch: Batch, grad_clip: float
) -> tuple[float, float, float]:
    """Take one optimizer step.

    Args:
        tokens: what the image encoder returned for the batch.
        grad_clip: largest norm of the gradient.

    Returns:
        Before the step: the loss, its asymmetric part, its CT cost.
    """
    optimizer.zero_grad(set_to_none=True)
    device = tokens.cls.device
    scores = model.score(tokens, model.compute_prototypes())
    losses = model.compute_loss(scores, batch.targets.to(device), batch.ignored.to(device))
    losses.total.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    model.clamp_tau()
    parts = (losses.total, losses.asymmetric, losses.transport)
    total, asymmetric, transport = (float(part.detach()) for part in parts)
    return total, asymmetric, transport


@torch.inference_mode()
def evaluate_map(
    model: PatchCT,
    batches: Batches,
    normalize: Normalize,
    autocast: Autocast = nullcontext,
    advance: Advance = ignore_progress,
) -> float:
    """Return the mAP (mean average precision, 0..1) over a dataset; NaN without positives."""
    model.eval()
    prototypes = model.compute_prototypes()
    logits = []
    for batch in batches.iter_unaugmented():
        with autocast():
            tokens = model.image(normalize(batch.images))
        logits.append(model.score(tokens, prototypes).logits.cpu().numpy())
        advance(sum(map(len, logits)))
    return mean_average_precision(
        np.concatenate(logits), batches.targets.numpy(), batches.ignored.numpy()
    )


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
