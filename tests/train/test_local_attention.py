"""Patches that attend to themselves alone: what reaches what, on models of `transformers`."""

from __future__ import annotations

import pytest
import torch
from test_image_encoder import MODELS, pixels, saved

from patchct_edge.errors import UserError
from patchct_edge.train.image_encoder import ImageEncoder

WITH_CLS = [name for name in MODELS if MODELS[name][2]]


def encoder_of(name, folder, local_layers):
    make, config, *_ = MODELS[name]
    torch.manual_seed(0)
    saved(make(config), folder)
    return ImageEncoder.load(str(folder), (-1,), True, local_layers).eval()


@torch.no_grad()
def reached_from_the_middle(encoder):
    """Return which of CLS and the 9 patches change with the patch in the middle."""
    before = pixels(1)
    after = before.clone()
    after[..., 8:16, 8:16] += 1
    one, other = encoder(before), encoder(after)
    cls = not torch.equal(one.cls, other.cls)
    return cls, (one.patches != other.patches).any(-1).flatten().tolist()


@pytest.mark.parametrize("name", WITH_CLS)
def test_in_local_layers_a_patch_reaches_itself_and_cls(name, tmp_path):
    cls, patches = reached_from_the_middle(encoder_of(name, tmp_path, 3))
    assert cls
    assert patches == [n == 4 for n in range(9)]


@pytest.mark.parametrize("name", WITH_CLS)
def test_in_the_other_layers_it_reaches_all(name, tmp_path):
    assert reached_from_the_middle(encoder_of(name, tmp_path, 2)) == (True, [True] * 9)


@pytest.mark.parametrize("name", WITH_CLS)
def test_cls_attends_in_a_local_layer_as_before(name, tmp_path):
    full, local = (encoder_of(name, tmp_path, layers)(pixels()) for layers in (0, 1))
    torch.testing.assert_close(local.cls, full.cls)
    assert not torch.allclose(local.patches, full.patches, atol=1e-2)


def test_without_a_cls_token_nothing_changes(tmp_path):
    full, local = (encoder_of("siglip", tmp_path, layers)(pixels()) for layers in (0, 3))
    torch.testing.assert_close(local.patches, full.patches, rtol=0, atol=0)


def test_a_model_may_be_given_another_count(tmp_path):
    encoder = encoder_of("vit", tmp_path, 3)
    again = ImageEncoder(encoder.model, (-1,), 0).eval()
    assert reached_from_the_middle(again) == (True, [True] * 9)


@pytest.mark.parametrize("layers", [-1, 4])
def test_a_count_that_the_encoder_lacks_is_refused(layers, tmp_path):
    with pytest.raises(UserError, match="local_layers") as caught:
        encoder_of("vit", tmp_path, layers)
    assert "0 to 3" in str(caught.value)
