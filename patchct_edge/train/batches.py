"""Batches of images and targets.

Augmentation depends on the seed, the epoch, the position in it and the image alone, so a resumed
run sees the same pixels as an uninterrupted one.
"""

from __future__ import annotations

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
from patchct_edge.parallel import count_workers, map_in_order
from patchct_edge.train.config import TrainConfig

CROP_ASPECT_RANGE = (3 / 4, 4 / 3)  # relative to the aspect of the photo, width / height


@dataclass(frozen=True)
class Batch:
    """Images, uint8 (B, H, W, 3); targets and ignored, bool (B, M)."""

    images: Tensor
    targets: Tensor
    ignored: Tensor


class Batches:
    """Batches of a dataset, decoded by threads while the model works.

    Attributes:
        targets, ignored: bool (N, M) for all images; see `Dataset.targets`.
        repeats: float (N,), how often each image is drawn per epoch, on average.
    """

    def __init__(self, dataset: Dataset, preprocessing: Preprocessing, config: TrainConfig) -> None:
        self.dataset, self.preprocessing, self.config = dataset, preprocessing, config
        targets, ignored = dataset.build_targets()
        self.targets, self.ignored = torch.from_numpy(targets), torch.from_numpy(ignored)
        self.repeats = compute_repeat_factors(targets & ~ignored, config.balance)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in a training epoch."""
        return max(1, round(self.repeats.sum()) // self.config.batch_size)

    def iter_training(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, shuffled and augmented, all of them full.

        What would not fill a last batch is left out; every epoch leaves out other images.
        """
        config = self.config
        rng = np.random.default_rng((config.seed, epoch))
        # A repeat of 2.3 is two draws, and a third one in 30 % of the epochs.
        draws = np.floor(self.repeats + rng.random(len(self.repeats))).astype(int)
        order = rng.permutation(np.repeat(np.arange(len(draws)), draws))
        order = np.resize(order, self.steps_per_epoch * config.batch_size)
        return self._iter_batches(order, epoch)

    def iter_unaugmented(self) -> Iterator[Batch]:
        """Yield every image once, in order, without augmentation."""
        return self._iter_batches(np.arange(len(self.dataset)), None)

    def _iter_batches(self, order: np.ndarray, epoch: int | None) -> Iterator[Batch]:
        size, workers = self.config.batch_size, count_workers()
        jobs = ((epoch, position, int(index)) for position, index in enumerate(order))
        decoded = map_in_order(
            self._read_image, jobs, workers=workers, max_pending=2 * size + workers
        )
        for start in range(0, len(order), size):
            indices = torch.from_numpy(order[start : start + size])
            pixels = np.stack([next(decoded) for _ in indices])
            yield Batch(torch.from_numpy(pixels), self.targets[indices], self.ignored[indices])

    def _read_image(self, job: tuple[int | None, int, int]) -> RGB:
        """Decode and preprocess the image of (epoch, position, index); augment it in an epoch."""
        epoch, position, index = job
        rgb = images.decode(self.dataset.samples[index].path)
        if epoch is None:
            return self.preprocessing.apply(rgb)
        rng = np.random.default_rng((self.config.seed, epoch, position, index))
        pixels = self.preprocessing.apply(rgb, draw_crop_box(rgb, self.config.crop_scale, rng))
        mirror = self.config.flip and rng.random() < 0.5
        return pixels[:, ::-1] if mirror else pixels


def draw_crop_box(rgb: RGB, min_area: float, rng: np.random.Generator) -> Box:
    """Draw a box of a random size and aspect inside a photo.

    Its area is `min_area` to 1 of the photo's; a long box that would leave the photo is cut off
    there, so it may be a little smaller.

    Args:
        rgb: the photo, uint8 (H, W, 3).
        min_area: a fraction of the photo's area, above 0; from 1 on the box is the whole photo.
    """
    height, width = rgb.shape[:2]
    if min_area >= 1:
        return (0, 0, width, height)
    area = rng.uniform(min_area, 1) * width * height
    aspect = float(np.exp(rng.uniform(*np.log(CROP_ASPECT_RANGE)))) * width / height
    w, h = min(width, (area * aspect) ** 0.5), min(height, (area / aspect) ** 0.5)
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return (left, top, left + w, top + h)


def compute_repeat_factors(targets: np.ndarray, threshold: float) -> np.ndarray:
    """Return how often each image is drawn per epoch: repeat-factor sampling, arXiv 1908.03195.

    The factor is the maximum over the image's labels of sqrt(threshold / f_m), at least 1, where
    f_m is the fraction of images with label m.

    Args:
        targets: bool (N, M).
        threshold: fraction of the images, 0..1, below which a label counts as rare.

    Returns:
        float (N,), at least 1.
    """
    frequency = targets.mean(0)  # (M,)
    per_label = np.sqrt(threshold / np.maximum(frequency, 1e-12)).clip(min=1)
    return np.where(targets, per_label, 1).max(1, initial=1)


def check_trainable(dataset: Dataset) -> None:
    """Check that a dataset can train a tagger.

    Raises:
        UserError: it has no images, or fewer than two labels.
    """
    if not dataset.samples:
        raise UserError("the dataset has no training images")
    if len(dataset.label_set) < 2:
        raise UserError(
            "a tagger needs at least two labels",
            got=", ".join(dataset.label_set) or "none",
            fix="check the column 'labels', or the file of --labels",
        )
