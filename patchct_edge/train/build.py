"""Building a model from settings and a dataset, or from an earlier run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from patchct_edge.bundle import Preprocessing
from patchct_edge.datasets import Dataset
from patchct_edge.errors import UserError
from patchct_edge.train.checkpoint import RunState, load_model
from patchct_edge.train.config import TrainConfig
from patchct_edge.train.encoders.image import ImageEncoder, read_normalization
from patchct_edge.train.encoders.labels import (
    DEFAULT_PROMPT,
    FixedLabelEncoder,
    LearnedLabelEncoder,
    load_text_label_encoder,
    read_table_embeddings,
)
from patchct_edge.train.encoders.resolution import resize_position_embeddings
from patchct_edge.train.model import PatchCT

LEARNED_WIDTH = 256  # of a learned label embedding


def build_model(
    dataset: Dataset, config: TrainConfig, start_from: Path | None = None
) -> tuple[PatchCT, RunState]:
    """Build a model and the state of a run with no epoch done.

    Args:
        start_from: run whose best weights the model starts with; the label encoder is new.

    Raises:
        UserError: an encoder cannot be loaded, or the weights of `start_from` do not fit.
    """
    prompts = tuple(
        dataset.prompts.get(label, DEFAULT_PROMPT.format(label=label))
        for label in dataset.label_set
    )
    labels = create_label_encoder(config, dataset.label_set, prompts)
    if start_from is None:
        model, preprocessing = _build_new(dataset, labels, config)
    else:
        model, preprocessing = _build_from_run(start_from, dataset, labels, config)
    return model, RunState(tuple(dataset.label_set), prompts, preprocessing, dataset.fingerprint())


def create_label_encoder(
    config: TrainConfig, labels: Sequence[str], prompts: Sequence[str]
) -> nn.Module:
    """Create the label encoder that the settings name, for labels with one prompt each.

    Raises:
        UserError: a text encoder or table cannot be read, or the table lacks a label.
    """
    source = config.label_encoder
    if source == "learned":
        return LearnedLabelEncoder(len(labels), LEARNED_WIDTH)
    if source.endswith(".npz"):
        return FixedLabelEncoder(read_table_embeddings(Path(source), labels))
    text_encoder = load_text_label_encoder(source, prompts)
    if config.train_text_encoder:
        return text_encoder
    with torch.no_grad():
        return FixedLabelEncoder(text_encoder.eval()())


def _build_new(
    dataset: Dataset, labels: nn.Module, config: TrainConfig
) -> tuple[PatchCT, Preprocessing]:
    targets, ignored = dataset.build_targets()
    prior = float(targets[~ignored].mean().clip(1e-4, 1 - 1e-4))
    with torch.no_grad():
        embeddings = labels()
    learned = isinstance(labels, LearnedLabelEncoder)
    mean = torch.zeros(embeddings.shape[1]) if learned else embeddings.mean(0)
    image = ImageEncoder.load(
        config.image_encoder, config.layers, config.pretrained, config.image_size
    )
    preprocessing = Preprocessing(
        image.size, config.fit, config.interpolation, **read_normalization(config.image_encoder)
    )
    return PatchCT(image, labels, mean, config, prior), preprocessing


def _build_from_run(
    run: Path, dataset: Dataset, labels: nn.Module, config: TrainConfig
) -> tuple[PatchCT, Preprocessing]:
    """Build a model with the weights of a run, but for its label embeddings or prompts."""
    old, state = load_model(run)
    _check_start(old, state, dataset, labels, config)
    image = ImageEncoder(
        resize_position_embeddings(old.image.model, config.image_size), config.layers
    )
    model = PatchCT(image, labels, old.label_mean, config)
    weights = old.state_dict()
    # Buffers of the label encoder stand for the labels: a table's embeddings, or prompt tokens.
    weights.update({f"labels.{k}": value for k, value in labels.named_buffers(recurse=False)})
    weights.update({f"image.{name}": value for name, value in image.state_dict().items()})
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"the weights of {run} do not fit these settings",
            got=error,
            fix="keep dim and label_encoder as they were in that run",
        ) from None
    if config.tau != old.config.tau:  # set by the user; else the learned value stays
        model.log_tau.data.fill_(math.log(config.tau))
    return model, replace(
        state.preprocessing, size=image.size, fit=config.fit, interpolation=config.interpolation
    )


def _check_start(
    old: PatchCT, state: RunState, dataset: Dataset, labels: nn.Module, config: TrainConfig
) -> None:
    """Check that a run can be started from with these settings and labels."""
    if config.image_encoder != old.config.image_encoder:
        raise UserError(
            "the image encoder comes with the run to start from",
            got=config.image_encoder,
            expected=old.config.image_encoder,
            fix="omit --image-encoder, or --from",
        )
    if isinstance(labels, LearnedLabelEncoder) and tuple(dataset.label_set) != state.labels:
        raise UserError(
            "learned label embeddings exist only for the labels they were trained on",
            got=", ".join(dataset.label_set),
            expected=", ".join(state.labels),
            fix="use a table or a text encoder for the labels, or train without --from",
        )
    width, old_width = labels().shape[1], old.project_label.in_features
    if width != old_width:
        raise UserError(
            "the label embeddings differ in width from those of the run to start from",
            got=width,
            expected=old_width,
            fix="keep label_encoder as it was in that run",
        )
