"""The training configuration: flat, typed, strict; every fault is reported at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from patchct_edge.bundle.preprocessing import FITS
from patchct_edge.errors import Fault, FaultsError, UserError, did_you_mean
from patchct_edge.images import FILTERS


def _setting(
    default: Any,
    help: str,
    *,
    low: float = 0,
    high: float = float("inf"),
    choices: tuple[str, ...] = (),
) -> Any:
    return field(
        default=default, metadata={"help": help, "low": low, "high": high, "choices": choices}
    )


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run; the defaults fine-tune a pretrained ViT on a few thousand photos."""

    # What is trained
    image_encoder: str = _setting(
        "facebook/deit-tiny-patch16-224", "hub id or folder of the image encoder"
    )
    pretrained: bool = _setting(True, "load the encoder's weights; false starts from random ones")
    label_encoder: str = _setting(
        "learned", "'learned', an .npz table, or the hub id or folder of a text encoder"
    )
    train_text_encoder: bool = _setting(False, "let the text encoder train along")
    dim: int = _setting(256, "width of the space that patches and labels share", low=1)
    image_size: int = _setting(
        0,
        "side of the input, pixels; 0 is the encoder's own, more sees and points better",
        high=4096,
    )
    layers: tuple[int, ...] = _setting(
        (-1,), "encoder layers that the CT cost aligns, -1 the last; the scores use the last entry"
    )
    cls_score: bool = _setting(True, "use the first term of the logit, a <c, l>")
    navigator_score: bool = _setting(True, "use the second term of the logit, g sum B s")

    # The loss
    ct_weight: float = _setting(0.2, "weight of the CT cost beside the asymmetric loss")
    ct_forward: float = _setting(1.0, "weight of the patch-to-label term of the CT cost")
    ct_backward: float = _setting(1.0, "weight of the label-to-patch term of the CT cost")
    tau: float = _setting(0.1, "navigator temperature at the start; learned", low=0.03, high=1)
    gamma_positive: float = _setting(0.0, "focusing of the asymmetric loss on hard positives")
    gamma_negative: float = _setting(2.0, "focusing of the asymmetric loss on hard negatives")
    clip: float = _setting(0.05, "probability below which a negative counts as solved", high=0.99)

    # The optimiser
    epochs: int = _setting(8, "passes over the training images", low=1)
    batch_size: int = _setting(32, "images a step", low=1)
    lr_backbone: float = _setting(
        1.5e-4, "peak learning rate of the encoders' last layers; 0 freezes the encoders"
    )
    layer_decay: float = _setting(
        0.75,
        "learning rate of an image encoder's layer as a share of the next one's",
        low=0.01,
        high=1,
    )
    lr_head: float = _setting(1e-3, "peak learning rate of everything else")
    warmup: float = _setting(0.2, "share of the steps in which the rate rises", high=1)
    weight_decay: float = _setting(0.05, "AdamW's, for matrices only")
    grad_clip: float = _setting(1.0, "largest norm of the gradient", low=1e-6)
    ema_decay: float = _setting(0.995, "of the averaged weights, a step", high=0.999999)

    # The data
    crop_scale: float = _setting(
        0.4,
        "smallest random crop, as a share of the image's area; 1 crops nothing",
        low=0.01,
        high=1,
    )
    flip: bool = _setting(True, "mirror half of the images")
    balance: float = _setting(
        0.0,
        "draw labels rarer than this share of the images more often; 0 draws each once",
        high=1,
    )
    fit: str = _setting("squash", "how an image fills the square input", choices=FITS)
    interpolation: str = _setting("bilinear", "resampling filter", choices=tuple(FILTERS))

    # The run
    precision: str = _setting(
        "auto",
        "bf16 is autocast; auto takes it where it is faster",
        choices=("auto", "fp32", "bf16"),
    )
    seed: int = _setting(0, "of weights, order and augmentation", high=2**32 - 1)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def parse_config(values: Mapping[str, object], source: str = "settings") -> TrainConfig:
    """Make a configuration from names and values; a value may be text, as on a command line.

    Raises:
        FaultsError: unknown names, wrong types, values out of range, all together.
    """
    known = {f.name: f for f in fields(TrainConfig)}
    types = get_type_hints(TrainConfig)
    parsed: dict[str, Any] = {}
    faults: list[str] = []
    for name, value in values.items():
        if name not in known:
            faults.append(f"unknown setting '{name}': {did_you_mean(name, known)}")
            continue
        try:
            parsed[name] = _typed(types[name], value)
            faults += _range_faults(known[name], parsed[name])
        except (ValueError, TypeError, OverflowError):
            kind = getattr(types[name], "__name__", str(types[name]))
            faults.append(f"{name}: got {value!r}, expected {kind}")
    if not parsed.get("cls_score", True) and not parsed.get("navigator_score", True):
        faults.append("cls_score and navigator_score: at least one must be on")
    if parsed.get("lr_backbone") == 0 == parsed.get("lr_head"):
        faults.append("lr_backbone and lr_head: got 0 twice, expected something to train")
    if faults:
        raise FaultsError("the settings are not valid", [Fault(source, None, f) for f in faults])
    return TrainConfig(**parsed)


def read_config(path: Path, overrides: Mapping[str, object]) -> TrainConfig:
    """Read a `config.json` (of a run, or hand-written) and lay `overrides` over it.

    Raises:
        UserError: the file cannot be read, is no JSON object, or holds a fault.
    """
    try:
        values = {**json.loads(path.read_text("utf-8")), **overrides}
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"cannot read {path}", got=error, expected="a JSON object") from None
    return parse_config(values, str(path))


def _typed(kind: Any, value: object) -> object:
    if kind is str:
        if not isinstance(value, str):
            raise TypeError
        return value
    if isinstance(value, str):
        value = json.loads(value)
    if kind is bool or isinstance(value, bool):
        if kind is not bool or not isinstance(value, bool):
            raise TypeError
        return value
    if kind is int or kind is float:
        if not isinstance(value, (int, kind)):
            raise TypeError
        return kind(value)
    items = value if isinstance(value, (list, tuple)) else [value]
    if not items or not all(type(item) is int for item in items):
        raise TypeError
    return tuple(items)


def _range_faults(setting: Field[Any], value: Any) -> list[str]:
    choices, low, high = (setting.metadata[key] for key in ("choices", "low", "high"))
    if choices and value not in choices:
        return [f"{setting.name}: got '{value}', expected {' or '.join(choices)}"]
    if isinstance(value, (int, float)) and not low <= value <= min(high, sys.float_info.max):
        return [f"{setting.name}: got {value}, expected {low} to {high}"]
    return []
