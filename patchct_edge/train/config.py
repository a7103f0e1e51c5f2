"""The training settings: flat, typed, strict; all faults are reported at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from patchct_edge.errors import Fault, FaultsError, UserError, did_you_mean

RULE = "rule_of_two_settings"  # the error type of faults that lie in two settings together


class TrainConfig(BaseModel):
    """Settings of one run; the defaults fine-tune a pretrained ViT on a few thousand photos."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    # The model
    image_encoder: str = Field(
        default="facebook/deit-tiny-patch16-224",
        description="Hugging Face id or folder of the image encoder",
    )
    pretrained: bool = Field(
        default=True, description="load the encoder's weights; false starts from random weights"
    )
    label_encoder: str = Field(
        default="learned",
        description="'learned', an .npz table of label embeddings, or Hugging Face "
        "id or folder of a text encoder",
    )
    train_text_encoder: bool = Field(default=False, description="train the text encoder too")
    dim: int = Field(
        default=256, ge=1, description="dimensions of the space that patches and labels share"
    )
    image_size: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="side of the model input, pixels; 0: the encoder's own; larger shows detail",
    )
    layers: tuple[int, ...] = Field(
        default=(-1,),
        min_length=1,
        description="encoder layers that the CT cost aligns, -1 the last; the last one listed "
        "gives the scores",
    )
    cls_score: bool = Field(
        default=True, description="score the image as a whole: the logit's first term, a <c, l>"
    )
    navigator_score: bool = Field(
        default=True,
        description="score the patches that the navigator picks: the logit's second term, "
        "g sum B(n|m) s",
    )

    # The loss
    ct_weight: float = Field(
        default=0.2, ge=0, description="weight of the CT (conditional transport) cost in the loss"
    )
    ct_forward: float = Field(
        default=1.0, ge=0, description="weight of the patch-to-label term in the CT cost"
    )
    ct_backward: float = Field(
        default=1.0, ge=0, description="weight of the label-to-patch term in the CT cost"
    )
    tau: float = Field(
        default=0.1, ge=0.03, le=1, description="navigator temperature at the start; it is learned"
    )
    gamma_positive: float = Field(
        default=0.0, ge=0, description="focus of the asymmetric loss on hard positives"
    )
    gamma_negative: float = Field(
        default=2.0, ge=0, description="focus of the asymmetric loss on hard negatives"
    )
    clip: float = Field(
        default=0.05,
        ge=0,
        le=0.99,
        description="probability below which a negative counts as solved",
    )

    # The optimizer
    epochs: int = Field(default=8, ge=1, description="passes over the training images")
    batch_size: int = Field(default=32, ge=1, description="images per step")
    lr_backbone: float = Field(
        default=1.5e-4,
        ge=0,
        description="peak learning rate of the encoders' last layers; 0 freezes the encoders",
    )
    layer_decay: float = Field(
        default=0.75,
        ge=0.01,
        le=1,
        description="learning rate of an image encoder layer relative to the layer after it",
    )
    lr_head: float = Field(default=1e-3, ge=0, description="peak learning rate of everything else")
    warmup: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="fraction of the steps in which the learning rate rises",
    )
    weight_decay: float = Field(
        default=0.05, ge=0, description="weight decay of AdamW, on matrices only"
    )
    grad_clip: float = Field(default=1.0, ge=1e-6, description="largest norm of the gradient")
    ema_decay: float = Field(
        default=0.995, ge=0, le=0.999999, description="decay of the averaged weights, per step"
    )

    # The data
    crop_scale: float = Field(
        default=0.4,
        ge=0.01,
        le=1,
        description="smallest random crop as a fraction of the image area; 1 disables cropping",
    )
    flip: bool = Field(default=True, description="mirror half of the images")
    balance: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="draw labels rarer than this fraction of the images more often; 0 disables",
    )
    fit: Literal["squash", "crop", "pad"] = Field(
        default="squash", description="how a photo fills the square model input"
    )
    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest"] = Field(
        default="bilinear", description="resampling filter"
    )

    # The run
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="bf16: mixed precision; auto uses it where it is faster"
    )
    seed: int = Field(
        default=0, ge=0, le=2**32 - 1, description="seed of weights, image order and augmentation"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _read_text(cls, value: object, info: ValidationInfo) -> object:
        """Read text as JSON, as a command line gives it; one layer may stand without brackets."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, str) and kind is not str and get_origin(kind) is not Literal:
            try:
                value = json.loads(value)
            except ValueError:
                return value  # text where a number is expected: the type check refuses it
        if get_origin(kind) is tuple:
            return tuple(value) if isinstance(value, (list, tuple)) else (value,)
        return value

    @field_validator("navigator_score")
    @classmethod
    def _require_a_score(cls, value: bool, info: ValidationInfo) -> bool:
        if not value and not info.data.get("cls_score", True):
            raise PydanticCustomError(
                RULE, "cls_score and navigator_score: both are off, expected at least one on"
            )
        return value

    @field_validator("lr_head")
    @classmethod
    def _require_a_learning_rate(cls, value: float, info: ValidationInfo) -> float:
        if value == 0 == info.data.get("lr_backbone"):
            raise PydanticCustomError(
                RULE, "lr_backbone and lr_head: both are 0, which trains nothing"
            )
        return value

    def to_json(self) -> dict[str, Any]:
        """Return the settings by name, as `config.json` holds them."""
        return self.model_dump()


class SettingRow(NamedTuple):
    """One setting for a person: its name, and the texts of default, values and meaning."""

    name: str
    default: str
    values: str
    meaning: str


def list_settings() -> list[SettingRow]:
    """Return a row for every training setting: for `patchct train --settings` and the docs."""
    return [
        SettingRow(
            name,
            field.default if isinstance(field.default, str) else json.dumps(field.default),
            _describe_values(field),
            str(field.description),
        )
        for name, field in TrainConfig.model_fields.items()
    ]


def parse_config(values: Mapping[str, object], source: str = "settings") -> TrainConfig:
    """Make a configuration from names and values; a value may be text, as on a command line.

    Args:
        source: where the values come from, for the error message.

    Raises:
        FaultsError: unknown names, wrong types, values out of range, all together.
    """
    try:
        return TrainConfig(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        faults: dict[str, str] = {}  # one for each setting, in the order of `values`
        for detail in error.errors():
            name = str(detail["loc"][0])
            message = detail["msg"] if detail["type"] == RULE else _describe_fault(name, values)
            faults.setdefault(name, message)
        messages = [faults[name] for name in values if name in faults]
        raise FaultsError(
            "the settings are not valid", [Fault(source, None, text) for text in messages]
        ) from None


def read_config(path: Path, overrides: Mapping[str, object]) -> TrainConfig:
    """Read a `config.json` (of a run, or hand-written) and apply `overrides` to it.

    Raises:
        UserError: the file cannot be read, is not a JSON object, or has a fault.
    """
    try:
        values = {**json.loads(path.read_text("utf-8")), **overrides}
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"cannot read {path}", got=error, expected="a JSON object") from None
    return parse_config(values, str(path))


def _describe_fault(name: str, values: Mapping[str, object]) -> str:
    """Return what is wrong with the value of one setting."""
    fields = TrainConfig.model_fields
    if name not in fields:
        return f"unknown setting '{name}': {did_you_mean(name, fields)}"
    return f"{name}: got {values[name]!r}, expected {_describe_values(fields[name])}"


def _describe_values(field: FieldInfo) -> str:
    """Return the values that a setting takes, in words."""
    kind = field.annotation
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    if get_origin(kind) is tuple:
        return "one or more whole numbers, such as [-4, -1]"
    if kind in (str, bool):
        return "text" if kind is str else "true or false"
    low = next(limit.ge for limit in field.metadata if hasattr(limit, "ge"))
    high = next((limit.le for limit in field.metadata if hasattr(limit, "le")), None)
    number = "a whole number" if kind is int else "a number"
    return f"{number}, {low} or more" if high is None else f"{number} from {low} to {high}"
