"""What backbones of other libraries share: networks that treat each image by itself, pooled features, files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from partsynth.core.backbones.base import RGB

CHANNELS_PER_GROUP = 16
HALF: RGB = (0.5, 0.5, 0.5)
IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_STD: RGB = (0.229, 0.224, 0.225)
EXTRA = 'pip install "partsynth[imagenet]"'


class Features(nn.Module):
    """A network that is never in training mode, and its pooled output.

    Batch normalisation keeps the statistics it was stored with, dropout and stochastic depth rest: an image's features
    do not depend on the images beside it, and are the same in every pass. Parameters may be trained all the same.
    """

    def __init__(self, net: nn.Module, pool: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self._pool = net, pool
        self.eval()

    def train(self, mode: bool = True) -> Features:
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        return self._pool(self.net, images).float()


def pooled(features: Tensor, prefix: int = 0) -> Tensor:
    """Features of one layer as (B, D): maps (B, C, h, w) or tokens (B, N, C).

    Maps: mean and maximum over the image (the maximum keeps a small feature that the mean would drown). Tokens behind
    ``prefix`` ones (class token first, then registers): the class token and the mean of the rest; without a prefix
    their mean and maximum.
    """
    if features.ndim == 4:
        return torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)
    if features.ndim == 2:
        return features
    rest = features[:, prefix:]
    return torch.cat([features[:, 0] if prefix else rest.amax(1), rest.mean(1)], 1)


@torch.no_grad()
def feature_dim(module: nn.Module, size: int) -> int:
    """D, found by a pass of one black image of ``size`` pixels a side."""
    return module(torch.zeros(1, 3, size, size)).shape[1]


def without_batch_statistics(net: nn.Module) -> nn.Module:
    """The network with group in place of batch normalisation: for weights that are drawn, which have no statistics."""
    for name, child in net.named_children():
        if isinstance(child, nn.BatchNorm2d):
            channels = child.num_features
            # some (timm's) carry their activation inside
            norm: nn.Module = nn.GroupNorm(_groups(channels), channels)
            inside = [part for part in child.children() if not isinstance(part, nn.Identity)]
            setattr(net, name, nn.Sequential(norm, *inside) if inside else norm)
        else:
            without_batch_statistics(child)
    return net


def _groups(channels: int) -> int:
    return channels // CHANNELS_PER_GROUP if channels % CHANNELS_PER_GROUP == 0 else 1


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def existing(path: str) -> Path:
    """
    Raises
    ------
    ValueError
        where there is no such file.
    """
    if not Path(path).is_file():
        raise ValueError(f"weights is {path}, which is no file")
    return Path(path)
