"""Batches of pixels and targets; augmentation depends on seed, epoch, place and index alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from patchct_edge import images
from patchct_edge.arrays import RGB
from patchct_edge.bundle import Preprocessing
from patchct_edge.datasets import Dataset
from patchct_edge.errors import UserError
from patchct_edge.images import Box
from patchct_edge.parallel import map_in_order
from patchct_edge.train.config import TrainConfig

ASPECTS = (3 / 4, 4 / 3)  # of random crops, width / height


@dataclass(frozen=True)
class Batch:
    """Images uint8 (B, H, W, 3); targets and ignored bool (B, M)."""

    images: Tensor
    targets: Tensor
    ignored: Tensor


class Batches:
    """Batches of a data set, decoded by threads while the model works."""

    def __init__(self, data: Dataset, preprocessing: Preprocessing, config: TrainConfig) -> None:
        self.data, self.preprocessing, self.config = data, preprocessing, config
        targets, ignored = data.targets()
        self.targets, self.ignored = torch.from_numpy(targets), torch.from_numpy(ignored)
        self.repeats = repeat_factors(targets & ~ignored, config.balance)

    def steps(self) -> int:
        """Number of batches in a training epoch."""
        return max(1, round(self.repeats.sum()) // self.config.batch_size)

    def train(self, epoch: int) -> Iterator[Batch]:
        """One epoch, shuffled and augmented; the incomplete last batch is left to other epochs."""
        config = self.config
        rng = np.random.default_rng((config.seed, epoch))
        # A fractional repeat of 2.3 is 2 draws and a third one in 30 % of the epochs.
        draws = np.floor(self.repeats + rng.random(len(self.repeats))).astype(int)
        order = rng.permutation(np.repeat(np.arange(len(draws)), draws))
        order = np.resize(order, self.steps() * config.batch_size)
        return self._batches(order, epoch)

    def plain(self) -> Iterator[Batch]:
        """Every image once, in order, without augmentation."""
        return self._batches(np.arange(len(self.data)), None)

    def _batches(self, order: np.ndarray, epoch: int | None) -> Iterator[Batch]:
        size, workers = self.config.batch_size, os.cpu_count() or 1
        jobs = ((epoch, turn, int(index)) for turn, index in enumerate(order))
        decoded = map_in_order(self._pixels, jobs, workers=workers, max_pending=2 * size + workers)
        for start in range(0, len(order), size):
            index = torch.from_numpy(order[start : start + size])
            pixels = np.stack([next(decoded) for _ in index])
            yield Batch(torch.from_numpy(pixels), self.targets[index], self.ignored[index])

    def _pixels(self, job: tuple[int | None, int, int]) -> RGB:
        epoch, turn, index = job
        rgb = images.decode(self.data.samples[index].path)
        if epoch is None:
            return self.preprocessing.apply(rgb)
        rng = np.random.default_rng((self.config.seed, epoch, turn, index))
        pixels = self.preprocessing.apply(rgb, random_crop(rgb, self.config.crop_scale, rng))
        flipped = self.config.flip and rng.random() < 0.5
        return pixels[:, ::-1] if flipped else pixels


def random_crop(rgb: RGB, smallest: float, rng: np.random.Generator) -> Box:
    """Draw a box of about `smallest` to 1 of the area and of a random aspect.

    What sticks out of the picture is cut off, so a wide or high box may be a little smaller.
    """
    height, width = rgb.shape[:2]
    if smallest >= 1:
        return (0, 0, width, height)
    area = rng.uniform(smallest, 1) * width * height
    aspect = float(np.exp(rng.uniform(*np.log(ASPECTS)))) * width / height
    w, h = min(width, (area * aspect) ** 0.5), min(height, (area / aspect) ** 0.5)
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return (left, top, left + w, top + h)


def repeat_factors(targets: np.ndarray, threshold: float) -> np.ndarray:
    """How often each image is drawn in an epoch, >= 1: repeat-factor sampling, arXiv 1908.03195.

    max over the image's labels of sqrt(threshold / f_m), f_m the share of images with label m.
    """
    share = targets.mean(0)  # (M,)
    per_label = np.sqrt(threshold / np.maximum(share, 1e-12)).clip(min=1)
    return np.where(targets, per_label, 1).max(1, initial=1)


def check_trainable(data: Dataset) -> None:
    """Raise a UserError where the data set cannot train a tagger."""
    if not data.samples:
        raise UserError("the data set has no training images")
    if len(data.label_set) < 2:
        raise UserError(
            "a tagger needs at least two labels",
            got=list(data.label_set),
            fix="check the column 'labels', or --labels FILE",
        )
