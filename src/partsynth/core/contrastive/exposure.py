"""Outlier exposure and its relatives: a linear head whose softmax is uniform on what is of no class.

Conventions: logits (B, C); targets (B, C) are rows of probabilities; images (B, 3, H, W) are floats in [0, 1].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsynth.core.contrastive.encoder import Encoder


class Beside(nn.Module):
    """An encoder whose rows hold more than the embedding: images (B, 3, H, W) to rows (B, D + E).

    The first D columns are the encoder's own embedding. The other E are the logits of ``head`` on the backbone's
    features or, without a head, these features scaled to length 1.

    Parameters
    ----------
    gradient : share, in [0, 1], of the head's gradient that reaches the encoder; the head's own is whole.
    """

    def __init__(self, encoder: Encoder, head: nn.Linear | None = None, gradient: float = 1.0) -> None:
        super().__init__()
        self.encoder, self.head, self.gradient = encoder, head, gradient

    def forward(self, images: Tensor) -> Tensor:
        features = self.encoder.features(images)
        if self.head is None:
            beside = F.normalize(features.float(), dim=1)
        elif self.gradient == 1:
            beside = self.head(features).float()
        else:
            held = features.detach()
            beside = self.head(held + self.gradient * (features - held)).float()
        return torch.cat([self.encoder.embedding(features), beside], dim=1)

    def logits(self, images: Tensor) -> Tensor:
        """Of the head alone (B, C)."""
        if self.head is None:
            raise ValueError("there is no head")
        return self.head(self.encoder.features(images))


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over rows of -sum_c target_c log softmax_c; 0 with a zero gradient where there is no row.

    With uniform targets it is Outlier Exposure's loss on outliers (Hendrycks et al. 2019, arXiv 1812.04606, sec. 3 for
    classifiers): its least value is log C, where the softmax is uniform.
    """
    if logits.shape != targets.shape:
        raise ValueError(f"logits {tuple(logits.shape)}, targets {tuple(targets.shape)}")
    if not len(logits):
        return logits.sum()
    return -(targets * F.log_softmax(logits, dim=1)).sum(1).mean()


def softened(labels: Tensor, share: Tensor, classes: int) -> Tensor:
    """Targets (B, classes): ``share`` (B,) of the label (B,), the rest spread over all classes alike.

    Share 0 is uniform, 1 is one-hot (MixOE, Zhang et al. 2021, arXiv 2106.03917, eq. 4).
    """
    share = share[:, None]
    return share * F.one_hot(labels, classes).to(share.dtype) + (1 - share) / classes


def mixed(images: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """``share`` (B,) of each image, the rest of the other: MixOE's linear mixing (arXiv 2106.03917, eq. 3)."""
    share = share.view(-1, 1, 1, 1)
    return share * images + (1 - share) * others


def relevant(gradient: Tensor, share: Tensor | float) -> Tensor:
    """(B, 1, H, W) bool: the ``share`` of pixels whose gradient (B, 3, H, W) is largest, summed over channels."""
    size = gradient.abs().sum(1, keepdim=True)  # (B, 1, H, W)
    count = max(1, round(float(share) * size[0].numel()))
    least = size.flatten(1).topk(count, dim=1).values[:, -1]
    return size >= least.view(-1, 1, 1, 1)


def outliers(images: Tensor, gradient: Tensor, share: float, strength: float) -> Tensor:
    """Images whose most relevant pixels are overlaid with their own gradient: what makes their class is destroyed.

    x + strength g / rms(g) on the ``share`` of pixels with the largest gradient g, that of the true class's logit, and
    clipped to [0, 1] (ASCOOD, Regmi 2024, arXiv 2411.10794, sec. 3; there the gradient's own size is scaled, here its
    root mean square over the chosen pixels is ``strength``, so that it means the same for every network).
    An image without a gradient stays as it is.
    """
    chosen = relevant(gradient, share)
    own = torch.where(chosen, gradient, 0)
    mean = own.square().flatten(1).sum(1) / (3 * chosen.flatten(1).sum(1))  # (B,)
    scale = strength / mean.sqrt().clamp(min=1e-12)
    return (images + own * scale.view(-1, 1, 1, 1)).clamp(0, 1)
