"""From settings and a data set to a model ready to train."""

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
    FixedLabels,
    LearnedLabels,
    load_text_labels,
    read_table_embeddings,
)
from patchct_edge.train.encoders.resolution import resize_position_embeddings
from patchct_edge.train.model import PatchCT

LEARNED_WIDTH = 256


def build_model(
    data: Dataset, config: TrainConfig, start_from: Path | None = None
) -> tuple[PatchCT, RunState]:
    """Build the model and the state of a run that has not begun.

    Raises:
        UserError: an encoder cannot be loaded, or the weights of `start_from` do not fit.
    """
    prompts = tuple(
        data.prompts.get(label, DEFAULT_PROMPT.format(label=label)) for label in data.label_set
    )
    labels = label_encoder(config, data.label_set, prompts)
    targets, ignored = data.targets()
    prior = float(targets[~ignored].mean().clip(1e-4, 1 - 1e-4))
    with torch.no_grad():
        embeddings = labels()
    learned = isinstance(labels, LearnedLabels)
    mean = torch.zeros(embeddings.shape[1]) if learned else embeddings.mean(0)
    if start_from is None:
        image = ImageEncoder.load(
            config.image_encoder, config.layers, config.pretrained, config.image_size
        )
        preprocessing = Preprocessing(
            image.size, config.fit, config.interpolation, **read_normalization(config.image_encoder)
        )
        model = PatchCT(image, labels, mean, config, prior)
    else:
        model, preprocessing = _started_from(start_from, data, labels, config)
    return model, RunState(tuple(data.label_set), prompts, preprocessing, data.fingerprint())


def label_encoder(config: TrainConfig, labels: Sequence[str], prompts: Sequence[str]) -> nn.Module:
    """Make the label encoder that the settings name."""
    source = config.label_encoder
    if source == "learned":
        return LearnedLabels(len(labels), LEARNED_WIDTH)
    if source.endswith(".npz"):
        return FixedLabels(read_table_embeddings(Path(source), labels))
    text = load_text_labels(source, prompts)
    if config.train_text_encoder:
        return text
    with torch.no_grad():
        return FixedLabels(text.eval()())


def _started_from(
    run: Path, data: Dataset, labels: nn.Module, config: TrainConfig
) -> tuple[PatchCT, Preprocessing]:
    """Take over a run's weights; what stands for the labels is made anew for this label set."""
    old, state = load_model(run)
    if config.image_encoder != old.config.image_encoder:
        raise UserError(
            "the image encoder comes with the run to start from",
            got=config.image_encoder,
            expected=old.config.image_encoder,
            fix="leave --image-encoder out, or --from",
        )
    if isinstance(labels, LearnedLabels) and tuple(data.label_set) != state.labels:
        raise UserError(
            "learned label embeddings exist only for the labels they were trained on",
            got=", ".join(data.label_set),
            expected=", ".join(state.labels),
            fix="use a table or a text encoder for the labels, or train from the start",
        )
    weights = old.state_dict()
    # What stands for the labels: a table's embeddings, or the words of their prompts.
    weights.update({f"labels.{k}": value for k, value in labels.named_buffers(recurse=False)})
    width, old_width = labels().shape[1], old.project_label.in_features
    if width != old_width:
        raise UserError(
            "the label embeddings have another width than in the run to start from",
            got=width,
            expected=old_width,
            fix="keep label_encoder as it was in that run",
        )
    image = ImageEncoder(
        resize_position_embeddings(old.image.model, config.image_size), config.layers
    )
    weights.update({f"image.{name}": value for name, value in image.state_dict().items()})
    model = PatchCT(image, labels, old.label_mean, config)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"the weights of {run} do not fit these settings",
            got=error,
            fix="keep dim and label_encoder as they were in that run",
        ) from None
    if config.tau != old.config.tau:  # asked for anew; else the learned one goes on
        model.log_tau.data.fill_(math.log(config.tau))
    return model, replace(
        state.preprocessing, size=image.size, fit=config.fit, interpolation=config.interpolation
    )
