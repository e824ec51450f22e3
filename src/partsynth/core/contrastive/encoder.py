"""The encoder that SupCon trains (backbone and projection head), and the linear probe on its frozen features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from partsynth.core.backbones.base import Backbone, Extractor
from partsynth.core.backbones.layers import set_trainable
from partsynth.core.images import views


class Memory(Protocol):
    """Features that a frozen backbone has given before."""

    def __call__(self, images: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Features (B, D) of images (B, 3, H, W), by ``compute`` where they are not known."""
        ...


class Encoder(nn.Module):
    """Images (B, 3, H, W) float in [0, 1] to L2-normalised embeddings (B, projection_dim).

    ``features`` gives the backbone's output (B, ``feature_dim``), which the linear probe and OOD scores use.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, extractor: Extractor, projection_dim: int):
        super().__init__()
        self.backbone, self.feature_dim = extractor.module, extractor.feature_dim
        self.input_size, self.resolved = extractor.input_size, extractor.resolved
        self.memory: Memory | None = None  # of a backbone that nobody trains
        hidden = self.feature_dim // 2
        self.projection = nn.Sequential(
            nn.Linear(self.feature_dim, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, projection_dim)
        )
        # not part of the stored state: the backbone's name says them
        for name, values in (("mean", extractor.mean), ("std", extractor.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def features(self, images: Tensor) -> Tensor:
        return self._features(images) if self.memory is None else self.memory(images, self._features)

    def _features(self, images: Tensor) -> Tensor:
        normalised = (images - self.mean) / self.std
        return self.backbone(normalised.contiguous(memory_format=torch.channels_last))

    def embedding(self, features: Tensor) -> Tensor:
        """The L2-normalised embedding (B, projection_dim) of features (B, ``feature_dim``)."""
        return F.normalize(self.projection(features).float(), dim=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.embedding(self.features(images))


def build(backbone: Backbone, parameters: Mapping[str, Any], projection_dim: int, seed: int | None) -> Encoder:
    """An encoder of this architecture, drawn without touching the global generator's state.

    Parameters
    ----------
    parameters : values of the backbone's ``keys``, and ``trainable`` ("all", "none", or how many of its last layers);
        others are not looked at.
    seed : of the weights that training starts from; None leaves the backbone without them, for weights to be loaded.
    """
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        extractor = backbone.build(parameters)
        encoder = Encoder(extractor, projection_dim)
        if seed is not None:
            backbone.initialise(extractor)  # after the head: seeds have given the same weights from the start
        set_trainable(extractor.module, parameters.get("trainable", "all"))
    return encoder.to(memory_format=torch.channels_last)


class Classifier(nn.Module):
    """A trained encoder with its linear probe: float images (B, 3, H, W) to features (B, D) and logits (B, C).

    Both are means over the image's ``test_views`` (see ``views.fixed``); the probe is linear, so logits of mean
    features are mean logits.
    """

    def __init__(self, encoder: Encoder, classes: int, size: int, test_views: views.Fixed = "none"):
        super().__init__()
        self.encoder, self.classifier, self.size = encoder, nn.Linear(encoder.feature_dim, classes), size
        self.test_views: views.Fixed = test_views

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        seen = [self.encoder.features(view) for view in views.fixed(images, self.test_views)]
        features = seen[0] if len(seen) == 1 else torch.stack(seen).mean(0)
        return features, self.classifier(features)


def resize(image: Image.Image, size: int) -> Image.Image:
    """The image at ``size`` pixels a side, anti-aliased; itself where it has that size. The one way to any size."""
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BICUBIC)


def to_float(images: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [0, 1]."""
    return images.permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def embed(model: Classifier, images: np.ndarray | Tensor, batch_size: int = 256) -> tuple[Tensor, Tensor]:
    """Features (B, D) of the backbone, before normalisation, and logits (B, C) of uint8 images (B, size, size, 3).

    Float32 on the CPU. ``resize`` brings images to the model's size; an image's result does not depend on the others.
    """
    pixels = torch.as_tensor(images)
    if pixels.dtype != torch.uint8 or pixels.shape[1:] != (model.size, model.size, 3):
        raise ValueError(
            f"images must be uint8 (B, {model.size}, {model.size}, 3), got {pixels.dtype} {tuple(pixels.shape)}"
        )
    if not len(pixels):
        return torch.zeros(0, model.encoder.feature_dim), torch.zeros(0, model.classifier.out_features)
    device = next(model.parameters()).device
    model.eval()
    features, logits = zip(*(model(to_float(part.to(device))) for part in pixels.split(batch_size)), strict=True)
    return torch.cat(features).float().cpu(), torch.cat(logits).float().cpu()


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """The module's state as safetensors wants it: on the CPU and contiguous."""
    return {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
