"""The datasets of a run: which samples to train on, and which to validate on."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from patchct_edge.datasets import (
    Dataset,
    read_all_splits,
    read_dataset,
    read_labels_file,
    select_split,
    split_off_validation,
)
from patchct_edge.train.config import TrainConfig
from patchct_edge.train.encoders.labels import read_table_names

logger = logging.getLogger(__name__)


def read_training_datasets(
    path: Path,
    config: TrainConfig,
    *,
    val_path: Path | None = None,
    labels_file: Path | None = None,
    image_folder: Path | None = None,
) -> tuple[Dataset, Dataset]:
    """Read the training and the validation dataset, both with the same label set.

    Args:
        path: the dataset; its train split is used.
        config: its embedding table, if it has one, names the labels unless `labels_file` does.
        val_path: dataset to validate on. By default that is the val split of `path`; without one,
            a tenth of the training images, drawn at random, is held out.
        labels_file: label set, one label a line, with a prompt after a tab.
        image_folder: image folder of a COCO JSON.

    Raises:
        UserError: a dataset or a file that cannot be used; all its faults are listed.
    """
    labels: tuple[str, ...] | None = None
    prompts: dict[str, str] = {}
    if labels_file is not None:
        labels, prompts = read_labels_file(labels_file)
    elif config.label_encoder.endswith(".npz"):
        labels = tuple(read_table_names(Path(config.label_encoder)))
    dataset = read_all_splits(path, image_folder)
    training = _log_warnings(select_split(dataset, default_split="train", labels=labels))
    labels = training.label_set
    if val_path is not None:
        validation = _log_warnings(
            read_dataset(val_path, default_split="val", labels=labels, images=image_folder)
        )
    elif dataset.has_split("val"):
        validation = select_split(dataset, default_split="val", labels=labels)
    else:
        training, validation = split_off_validation(training)
        logger.warning(
            f"the dataset has no val split: {len(validation)} images, drawn at random, "
            "are held out for validation"
        )
    return dataclasses.replace(training, prompts=prompts), validation


def _log_warnings(dataset: Dataset) -> Dataset:
    for warning in dataset.warnings:
        logger.warning(warning)
    return dataclasses.replace(dataset, warnings=())
