"""A narrow ResNet without batch statistics, trained from scratch: what a CPU affords."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsynth.core.backbones.base import Extractor

CHANNELS_PER_GROUP = 8


def _norm(channels: int) -> nn.Module:
    # Group, not batch normalisation: batch statistics would tell real from synthetic batches apart (a shortcut), leak
    # between views (He et al. 2019, sec. 3.3) and make micro-batches and several processes inexact.
    return nn.GroupNorm(1 if channels % CHANNELS_PER_GROUP else channels // CHANNELS_PER_GROUP, channels)


class Block(nn.Module):
    """Basic residual block (He et al. 2015); where it halves the resolution the shortcut averages first (ResNet-D)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = _norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = _norm(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            pool = [nn.AvgPool2d(stride, ceil_mode=True)] if stride != 1 else []
            self.shortcut = nn.Sequential(*pool, nn.Conv2d(inputs, outputs, 1, bias=False), _norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(h)) + self.shortcut(x), inplace=True)


class NarrowResNet(nn.Sequential):
    """Images (B, 3, H, W) to the last stage's mean- and max-pooled output (B, ``feature_dim``).

    Two 3x3 convolutions of stride 2 are the stem; stage k has ``width * 2**k`` channels and ``blocks[k]`` blocks, and
    every stage after the first halves the resolution.
    """

    def __init__(self, width: int, blocks: Sequence[int]):
        if width % CHANNELS_PER_GROUP:
            raise ValueError(f"width {width} is not a multiple of {CHANNELS_PER_GROUP}")
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in (width // 2, width):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), _norm(outputs), nn.ReLU(inplace=True)]
            inputs = outputs
        for stage, count in enumerate(blocks):
            outputs = width * 2**stage
            for index in range(count):
                layers.append(Block(inputs, outputs, 2 if stage > 0 and index == 0 else 1))
                inputs = outputs
        super().__init__(*layers)
        self.feature_dim = 2 * inputs

    def forward(self, images: Tensor) -> Tensor:
        x = super().forward(images).float()  # (B, C, h, w)
        # the maximum keeps a small feature (a tooth, a hole) that the mean over the image would drown
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)  # (B, 2C)


class _Member:
    name = "narrow_resnet"
    keys = ("width", "blocks")

    def build(self, parameters: Mapping[str, Any]) -> Extractor:
        module = NarrowResNet(parameters["width"], parameters["blocks"])
        return Extractor(module, module.feature_dim, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))

    def initialise(self, extractor: Extractor) -> None:
        for module in extractor.module.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


MEMBER = _Member()
