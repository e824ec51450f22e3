"""Random views of pictures, made in one batch on the pictures' device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

DRAWS = 12  # random numbers a view
GREY = (0.299, 0.587, 0.114)  # Rec. 601 luma
# RGB <-> YIQ (NTSC): hue is a rotation of the IQ plane
_YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


@dataclass(frozen=True)
class Views:
    """Strengths of the augmentations; the defaults are SupContrast's and the original study's."""

    scale: tuple[float, float] = (0.6, 1.0)  # share of the picture's area in the crop
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width : height of the crop, log-uniform
    flip: float = 0.5  # probability of a left-right mirror
    rotation: float = 15.0  # degrees, either way
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1  # of a full turn, either way
    jitter: float = 0.8  # probability of the four above
    grey: float = 0.2  # probability


def draw(count: int, seed: int) -> Tensor:
    """(count, DRAWS) uniform numbers for ``count`` views; made on the CPU, so they are the same for every device."""
    return torch.rand(count, DRAWS, generator=torch.Generator().manual_seed(seed))


def augment(images: Tensor, draws: Tensor, views: Views = Views(), size: int | None = None) -> Tensor:  # noqa: B008
    """One random view of each picture.

    Parameters
    ----------
    images : (B, 3, H, W) float in [0, 1].
    draws : (B, DRAWS) uniform numbers, each row one picture's (see ``draw``): a view depends on its own row alone.
    size : pixels a side of the views; None = the pictures' own.

    Returns
    -------
    (B, 3, size, size) float in [0, 1]. Brightness, saturation, hue and contrast are applied in this order, as one
    matrix a picture, and clipped once at the end (torchvision shuffles the order and clips after each).
    """
    u = draws.to(images.device, images.dtype).unbind(1)
    size = size or images.shape[2]
    x = F.grid_sample(
        images,
        F.affine_grid(_geometry(u, views), [len(images), 3, size, size], align_corners=False),
        mode="bilinear",
        padding_mode="reflection",
        align_corners=False,
    )
    matrix, contrast = _colour(u, views)  # (B, 3, 3), (B,)
    mean = (torch.einsum("c,bcd,bd->b", x.new_tensor(GREY), matrix, x.mean((2, 3))) * (1 - contrast))[:, None, None]
    flat = torch.baddbmm(mean.expand(-1, 3, 1), matrix * contrast[:, None, None], x.flatten(2))  # (B, 3, H W)
    return flat.view_as(x).clamp_(0, 1)


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def _geometry(u: tuple[Tensor, ...], views: Views) -> Tensor:
    """(B, 2, 3) maps from output to input coordinates in [-1, 1]: crop of the rotated, perhaps mirrored, picture."""
    area = _between(u[0], *views.scale)
    ratio = torch.exp(_between(u[1], math.log(views.ratio[0]), math.log(views.ratio[1])))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)  # of the picture's side
    left, top = (2 * u[2] - 1) * (1 - width), (2 * u[3] - 1) * (1 - height)  # crop's centre
    mirror = torch.where(u[4] < views.flip, -1.0, 1.0)
    angle = (2 * u[5] - 1) * math.radians(views.rotation)
    cos, sin = angle.cos(), angle.sin()
    rows = [cos * width * mirror, -sin * height, left * cos - top * sin, sin * width * mirror, cos * height, left * sin + top * cos]
    return torch.stack(rows, 1).view(-1, 2, 3)


def _colour(u: tuple[Tensor, ...], views: Views) -> tuple[Tensor, Tensor]:
    """Per picture: the 3x3 matrix of brightness, saturation, hue and greying, and the contrast factor."""
    on = (u[6] < views.jitter).to(u[6])

    def factor(value: Tensor, spread: float) -> Tensor:
        return 1 + on * (2 * value - 1) * spread

    brightness, contrast = factor(u[7], views.brightness), factor(u[8], views.contrast)
    saturation = torch.where(u[11] < views.grey, 0.0, factor(u[9], views.saturation))
    turn = on * (2 * u[10] - 1) * views.hue * 2 * math.pi
    yiq = u[0].new_tensor(_YIQ)  # (3, 3)
    zero, one = torch.zeros_like(turn), torch.ones_like(turn)
    cos, sin = saturation * turn.cos(), saturation * turn.sin()
    chroma = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    matrix = torch.linalg.inv(yiq) @ chroma @ yiq
    return matrix * brightness[:, None, None], contrast
