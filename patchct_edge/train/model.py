"""The PatchCT model; `train.transport` lists its equations.

Shapes: B images, L layers, N patches, M labels, D label embedding width, d shared dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchct_edge.train.config import TrainConfig
from patchct_edge.train.encoders.image import ImageEncoder, Tokens
from patchct_edge.train.loss import asymmetric_loss
from patchct_edge.train.transport import ct_cost, navigator_score, similarity

TAU_BOUNDS = (0.03, 1.0)


@dataclass(frozen=True)
class Scores:
    """The outputs of one forward pass, float32."""

    logits: Tensor  # (B, M), eq. (7)
    similarity: Tensor  # (B, L, M, N), eq. (1), one per layer


@dataclass(frozen=True)
class Losses:
    """The loss and its parts, scalars."""

    total: Tensor
    asymmetric: Tensor
    transport: Tensor


class PatchCT(nn.Module):
    """Image encoder, label encoder, their shared space, and the score of eq. (7).

    Args:
        image: the image encoder.
        labels: module whose call returns one embedding per label, (M, D).
        label_mean: (D,), subtracted from the embeddings; a constant of the checkpoint, so that
            adding a label moves no other prototype.
        config: the settings.
        prior: fraction of image-label pairs that are positive, in (0, 1); sets b at the start.
    """

    label_mean: Tensor

    def __init__(
        self,
        image: ImageEncoder,
        labels: nn.Module,
        label_mean: Tensor,
        config: TrainConfig,
        prior: float = 0.1,
    ) -> None:
        super().__init__()
        self.config = config
        self.image = image
        self.labels = labels
        self.register_buffer("label_mean", label_mean)
        self.project_image = nn.Linear(image.width, config.dim)
        # No bias: one would be common to all prototypes, the quickest way for them to collapse.
        self.project_label = nn.Linear(len(label_mean), config.dim, bias=False)
        last = nn.Linear(config.dim, config.dim)
        nn.init.zeros_(last.weight)  # the residual starts at 0
        nn.init.zeros_(last.bias)
        self.adapt = nn.Sequential(nn.Linear(config.dim, config.dim), nn.GELU(), last)
        self.log_tau = nn.Parameter(torch.tensor(math.log(config.tau)))
        self.a = nn.Parameter(torch.tensor(10.0))
        self.g = nn.Parameter(torch.tensor(5.0))
        self.b = nn.Parameter(torch.tensor(math.log(prior / (1 - prior))))

    @property
    def tau(self) -> Tensor:
        """Navigator temperature, a scalar within `TAU_BOUNDS`."""
        low, high = TAU_BOUNDS
        return self.log_tau.clamp(math.log(low), math.log(high)).exp()

    @torch.no_grad()
    def clamp_tau(self) -> None:
        """Set tau back within `TAU_BOUNDS`: outside it has no gradient and would stay there."""
        low, high = TAU_BOUNDS
        self.log_tau.clamp_(math.log(low), math.log(high))

    def compute_prototypes(self) -> Tensor:
        """Return the label prototypes l_m, (M, d), L2-normalized."""
        return F.normalize(self.project_label(self.labels() - self.label_mean), dim=1)

    def score(self, tokens: Tokens, prototypes: Tensor) -> Scores:
        """Score tokens of any float dtype against prototypes (M, d), in float32."""
        e = F.normalize(self.project_image(tokens.patches.float()), dim=3)  # (B, L, N, d)
        u = self.project_image(tokens.cls[:, -1].float())  # (B, d)
        c = F.normalize(u + self.adapt(u), dim=1)
        layers = [similarity(e[:, k], prototypes) for k in range(e.shape[1])]  # L x (B, M, N)
        logits = self.b.expand(c.shape[0], prototypes.shape[0])  # len() would fix B in an export
        if self.config.cls_score:
            logits = logits + self.a * (c @ prototypes.T)
        if self.config.navigator_score:
            logits = logits + self.g * navigator_score(layers[-1], self.tau)
        return Scores(logits, torch.stack(layers, 1))

    def compute_map_similarity(self, patches: Tensor, prototypes: Tensor) -> Tensor:
        """Return the similarity (B, M, N), eq. (1), of the patch tokens for maps, (B, N, h)."""
        return similarity(F.normalize(self.project_image(patches.float()), dim=2), prototypes)

    def forward(self, pixels: Tensor) -> Scores:
        """Score normalized pixels, float32 (B, 3, H, W)."""
        return self.score(self.image(pixels), self.compute_prototypes())

    def compute_loss(self, scores: Scores, targets: Tensor, ignored: Tensor) -> Losses:
        """Return the asymmetric loss plus `ct_weight` times the CT cost, eq. (5).

        Args:
            targets: bool (B, M), the labels of each image.
            ignored: bool (B, M), difficult labels, which contribute nothing.
        """
        config = self.config
        asymmetric = asymmetric_loss(
            scores.logits,
            targets,
            ignored,
            config.gamma_positive,
            config.gamma_negative,
            config.clip,
        )
        layers = scores.similarity.unbind(1)
        costs = [
            ct_cost(s, self.tau, targets & ~ignored, config.ct_forward, config.ct_backward)
            for s in layers
        ]
        transport = torch.stack(costs).mean()
        return Losses(asymmetric + config.ct_weight * transport, asymmetric, transport)


def mean_pairwise_cosine(prototypes: Tensor) -> float:
    """Return the mean cosine between different prototypes (M, d), -1..1; near 1 is a collapse.

    Equal label embeddings are 0 after their mean is subtracted: such prototypes have no direction,
    and count as collapsed.
    """
    m = len(prototypes)
    if m < 2:
        return 0.0
    if prototypes.norm(dim=1).min() < 0.5:
        return 1.0
    return float((prototypes.sum(0).square().sum() - m) / (m * (m - 1)))
