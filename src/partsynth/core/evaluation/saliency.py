"""Where in an image a classifier finds the class it names: HiResCAM (Draelos and Carin, arXiv 2011.08891), by captum.

    S = ReLU(sum over channels of A x dy / dA)

A is a layer's output, y the linear probe's logit minus the mean of all (what all logits share says nothing: the softmax
is the same without). Grad-CAM averages the gradient over the image first, which is
wrong for backbones that also take the maximum over the image; the two agree where features are means alone. A is the
last layer with at least SIDE x SIDE places, maps of convolutions or tokens of transformers alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from partsynth.core.contrastive.encoder import Classifier

SIDE = 7  # places of a map's side, at least: what a ResNet has of 224 pixels
PREFIX = 8  # class and register tokens, at most


def saliency(model: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    """What of each image speaks for its class.

    Parameters
    ----------
    model
        In eval mode, without a memory of features. The image is seen as it is, not in its test views.
    images
        (B, 3, H, H) float in [0, 1], B at least 1.
    targets
        (B,) classes as integers.

    Returns
    -------
    (B, s, s) float32, at least 0; 0 everywhere where nothing speaks for the class.

    Raises
    ------
    ValueError
        where no layer of the backbone has places of the image.
    """
    from captum.attr import LayerGradientXActivation

    if model.encoder.memory is not None:
        raise ValueError("features from memory have no gradient")

    def logits(x: Tensor) -> Tensor:
        found = model.classifier(model.encoder.features(x))  # (B, C)
        return found - found.mean(1, keepdim=True)

    images = images.detach().requires_grad_(True)  # a frozen backbone has no other gradient
    for layer in _layers(model.encoder.backbone, logits, images[:1]):
        products = LayerGradientXActivation(logits, layer).attribute(images, target=targets.to(images.device))
        assert isinstance(products, Tensor)
        found = _places(products.detach())
        if bool(found.any()):  # else behind the last exchange between places: in the class token alone
            return found.relu().float().cpu()
    raise ValueError("no layer of the backbone has places of the image")


def _layers(backbone: nn.Module, forward: Callable[[Tensor], Tensor], image: Tensor) -> list[nn.Module]:
    """Modules whose output has places, the one that ends last first; of those that run once."""
    ended: list[tuple[nn.Module, int]] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        ended.append((module, _side(output, len(pair), image.shape[-1]) if isinstance(output, Tensor) else 0))

    pair = image.detach().repeat(2, 1, 1, 1)  # two: windows of one image would look like images
    handles = [module.register_forward_hook(note) for module in backbone.modules()]
    try:
        with torch.no_grad():
            forward(pair)
    finally:
        for handle in handles:
            handle.remove()
    times = Counter(id(module) for module, _ in ended)
    sides = [(module, side) for module, side in reversed(ended) if side > 1 and times[id(module)] == 1]
    enough = min(SIDE, max((side for _, side in sides), default=0))
    return [module for module, side in sides if side >= enough]


def _side(output: Tensor, count: int, pixels: int) -> int:
    """Places of a side in maps (B, C, s, s) or (B, s, s, C), or in tokens (B, prefix + s s, C); 0 = none."""
    if len(output) != count:
        return 0
    if output.ndim == 4:
        side = output.shape[2] if output.shape[2] in (output.shape[1], output.shape[3]) else 0
    elif output.ndim == 3:
        side = math.isqrt(output.shape[1])
        side = side if output.shape[1] - side**2 <= PREFIX else 0
    else:
        return 0
    return side if side <= pixels // 2 else 0  # more are weights of attention


def _places(products: Tensor) -> Tensor:
    """Summed over channels: (B, s, s)."""
    if products.ndim == 4:
        return products.sum(1 if products.shape[2] == products.shape[3] else 3)
    sums = products.sum(2)  # (B, prefix + s s)
    side = math.isqrt(sums.shape[1])
    return sums[:, sums.shape[1] - side**2 :].view(-1, side, side)


def share_on(heat: Tensor, mask: Tensor) -> float:
    """Share in [0, 1] of an image's saliency (s, s) that lies where ``mask`` (H, W) bool is true; nan without saliency.

    The map is brought to the mask's size (bilinear), so a share is blurred by about half a place.
    """
    large = torch.nn.functional.interpolate(heat[None, None], mask.shape, mode="bilinear")[0, 0]  # (H, W)
    total = float(large.sum())
    return float(large[mask].sum()) / total if total > 0 else math.nan
