"""A narrow ResNet with a projection head (for SupCon) and a linear classifier (for the frozen encoder)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

CHANNELS_A_GROUP = 8


def _norm(channels: int) -> nn.Module:
    # Group, not batch normalisation: batch statistics would tell real from synthetic batches apart (a shortcut), leak
    # between views (He et al. 2019, sec. 3.3) and make chunked or multi-process batches inexact.
    return nn.GroupNorm(1 if channels % CHANNELS_A_GROUP else channels // CHANNELS_A_GROUP, channels)


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


class Encoder(nn.Module):
    """Pictures (B, 3, H, W) float in [0, 1] to L2-normalised embeddings (B, embedding).

    ``features`` gives the backbone's mean- and max-pooled output (B, ``feature_dim``), which the classifier and OOD scores use.
    Two 3x3 convolutions of stride 2 are the stem; stage k has ``width * 2**k`` channels, and every stage after the
    first halves the resolution.
    """

    def __init__(self, width: int, blocks: Sequence[int], embedding: int):
        super().__init__()
        if width % CHANNELS_A_GROUP:
            raise ValueError(f"width {width} is not a multiple of {CHANNELS_A_GROUP}")
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
        self.backbone = nn.Sequential(*layers)
        self.feature_dim = 2 * inputs
        self.projection = nn.Sequential(
            nn.Linear(2 * inputs, inputs), nn.ReLU(inplace=True), nn.Linear(inputs, embedding)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)

    def features(self, images: Tensor) -> Tensor:
        x = ((images - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)
        x = self.backbone(x).float()
        # the maximum keeps a small feature (a tooth, a hole) that the mean over the picture would drown
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)  # (B, feature_dim)

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.projection(self.features(images)).float(), dim=1)


def build(width: int, blocks: Sequence[int], embedding: int, seed: int | None = None) -> Encoder:
    """An encoder with fresh weights, drawn from ``seed`` without touching the global generator's state."""
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        return Encoder(width, blocks, embedding)


class Classifier(nn.Module):
    """A trained encoder with its linear classifier: float pictures (B, 3, H, W) to features (B, D) and logits (B, C)."""

    def __init__(self, encoder: Encoder, classes: int, size: int):
        super().__init__()
        self.encoder, self.classifier, self.size = encoder, nn.Linear(encoder.feature_dim, classes), size

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder.features(images)
        return features, self.classifier(features)


def resize(picture: Image.Image, size: int) -> Image.Image:
    """The picture at ``size`` pixels a side, anti-aliased; itself where it has that size. The one way to any size."""
    return picture if picture.size == (size, size) else picture.resize((size, size), Image.Resampling.BICUBIC)


def to_float(images: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [0, 1]."""
    return images.permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def embed(model: Classifier, images: np.ndarray | Tensor, batch_size: int = 256) -> tuple[Tensor, Tensor]:
    """Features (B, D) of the backbone, before normalisation, and logits (B, C) of uint8 pictures (B, size, size, 3).

    Float32 on the CPU. ``resize`` brings pictures to the model's size; a picture's result does not depend on the others.
    """
    pictures = torch.as_tensor(images)
    if pictures.dtype != torch.uint8 or pictures.shape[1:] != (model.size, model.size, 3):
        raise ValueError(
            f"images must be uint8 (B, {model.size}, {model.size}, 3), got {pictures.dtype} {tuple(pictures.shape)}"
        )
    if not len(pictures):
        return torch.zeros(0, model.encoder.feature_dim), torch.zeros(0, model.classifier.out_features)
    device = next(model.parameters()).device
    model.eval()
    features, logits = zip(*(model(to_float(part.to(device))) for part in pictures.split(batch_size)), strict=True)
    return torch.cat(features).float().cpu(), torch.cat(logits).float().cpu()


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """The module's state as safetensors wants it: on the CPU and contiguous."""
    return {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}


def load(folder: Path, device: str = "cpu") -> tuple[Classifier, dict[str, Any]]:
    """The classifier that the train stage wrote into ``folder``, in eval mode, and its config.json.

    ``config["classes"]`` are the class names in the order of the logits. Raises FileNotFoundError where a file lacks.
    """
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text())
    shape = config["architecture"]
    encoder = build(shape["width"], shape["blocks"], shape["embedding"], seed=0)
    encoder.load_state_dict(load_file(folder / "encoder.safetensors"))
    model = Classifier(encoder, len(config["classes"]), config["size"])
    model.classifier.load_state_dict(load_file(folder / "classifier.safetensors"))
    return model.to(device).eval(), config
