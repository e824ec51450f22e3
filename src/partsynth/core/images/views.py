"""Random views of images, made in one batch on the images' device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

DRAWS = 12  # random numbers per view
Kind = Literal["standard", "randaugment", "both"]  # colours of a view
FINE = 4096  # numbers' digits beyond a 4096th are numbers of their own: RandAugment's, where jitter takes the others
GREY = (0.299, 0.587, 0.114)  # Rec. 601 luma
# RGB <-> YIQ (NTSC): hue is a rotation of the IQ plane
_YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


@dataclass(frozen=True)
class Views:
    """Strengths of the augmentations. Of the defaults jitter and grey are SupContrast's (Khosla et al. 2020); its crops
    go down to 0.2 of the area and it rotates nothing: a part must stay whole in its view."""

    scale: tuple[float, float] = (0.6, 1.0)  # share of the image's area in the crop
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width : height of the crop, log-uniform
    flip: float = 0.5  # probability of a left-right mirror
    rotation: float = 15.0  # degrees, either way
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1  # of a full turn, either way
    jitter: float = 0.8  # probability of the four above
    grey: float = 0.2  # probability


@dataclass(frozen=True)
class RandAugment:
    """RandAugment (Cubuk et al. 2019, arXiv 1909.13719): some of OPERATIONS, drawn with return, all of one strength."""

    operations: int = 2  # N; at most 3, since a view has six numbers for them
    magnitude: float = 0.3  # M = 9 of 30


OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "colour",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)


def draw(count: int, seed: int) -> Tensor:
    """(count, DRAWS) uniform numbers for ``count`` views; made on the CPU, so they are the same for every device."""
    return torch.rand(count, DRAWS, generator=torch.Generator().manual_seed(seed))


def augment(
    images: Tensor,
    draws: Tensor,
    views: Views = Views(),
    size: int | None = None,
    kind: Kind = "standard",
    rand: RandAugment = RandAugment(),
) -> Tensor:
    """One random view of each image: crop, mirror and rotation, then the colours of ``kind``.

    Parameters
    ----------
    images : (B, 3, H, W) float in [0, 1].
    draws : (B, DRAWS) uniform numbers, each row one image's (see ``draw``): a view depends on its own row alone.
    size : pixels per side of the views; None = the images' own.
    kind : "standard": jitter and greying; "randaugment": RandAugment instead of them; "both": RandAugment, then them.
        RandAugment's geometric operations join the crop in one resampling, before its others; what lies outside is
        mirrored, as in every view.

    Returns
    -------
    (B, 3, size, size) float in [0, 1]. Brightness, saturation, hue and contrast are applied in this order, as one
    matrix per image, and clipped once at the end (torchvision shuffles the order and clips after each).
    """
    u = draws.to(images.device, images.dtype).unbind(1)
    size = size or images.shape[2]
    geometry = _geometry(u, views)
    chosen = [] if kind == "standard" else _chosen(draws if kind == "randaugment" else draws * FINE % 1, rand)
    for operation, sign in chosen:
        geometry = _compose(geometry, operation, sign, rand.magnitude)
    x = F.grid_sample(
        images.contiguous(),  # gathered twice as fast from planes than from interleaved colours
        sampling_grid(geometry, size),
        mode="bilinear",
        padding_mode="reflection",
        align_corners=False,
    )
    for operation, sign in chosen:
        x = _recolour(x, operation, sign, rand.magnitude)
    if kind == "randaugment":
        return x.clamp_(0, 1)
    matrix, contrast = _colour(u, views)  # (B, 3, 3), (B,)
    mean = (torch.einsum("c,bcd,bd->b", x.new_tensor(GREY), matrix, x.mean((2, 3))) * (1 - contrast))[:, None, None]
    flat = torch.baddbmm(mean.expand(-1, 3, 1), matrix * contrast[:, None, None], x.flatten(2))  # (B, 3, H W)
    return flat.view_as(x).clamp_(0, 1)


Fixed = Literal["none", "flips", "rotations"]
FIXED: tuple[Fixed, ...] = ("none", "flips", "rotations")  # fewest views first
TURNS = 8  # rotations, evenly over the circle


def fixed(images: Tensor, kind: Fixed) -> Iterator[Tensor]:
    """The views of images (B, 3, S, S) that a classifier's output may be averaged over, the images themselves first.

    "none": no other; "flips": mirrored left-right, up-down, and both; "rotations": turned by 45 degrees seven times,
    where the corners that lie outside have the image's mean colour.
    """
    yield images
    if kind == "flips":
        yield images.flip(3)
        yield images.flip(2)
        yield images.flip((2, 3))
    elif kind == "rotations":
        for turn in range(1, TURNS):
            yield rotated(images, 360 * turn / TURNS)


def rotated(images: Tensor, degrees: float) -> Tensor:
    """Images (B, 3, S, S) turned about their centre; what lies outside has each image's mean colour."""
    angle = math.radians(degrees)
    side = int(images.shape[3])
    at = (2 * torch.arange(side, device=images.device, dtype=images.dtype) + 1) / side - 1  # pixels' centres
    y, x = at[:, None], at[None, :]
    cos, sin = math.cos(angle), math.sin(angle)
    grid = torch.stack([cos * x - sin * y, sin * x + cos * y], -1)[None]  # affine_grid is not known to ONNX 18
    mean = images.mean((2, 3), keepdim=True)
    wide = grid.expand(images.shape[0], -1, -1, -1)  # not len: a traced graph takes any batch
    turned = F.grid_sample(images - mean, wide, align_corners=False)
    return (turned + mean).clamp_(0, 1)


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def _geometry(u: tuple[Tensor, ...], views: Views) -> Tensor:
    """(B, 2, 3) maps from output to input coordinates in [-1, 1]: crop of the rotated, perhaps mirrored, image."""
    area = _between(u[0], *views.scale)
    ratio = torch.exp(_between(u[1], math.log(views.ratio[0]), math.log(views.ratio[1])))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)  # of the image's side
    left, top = (2 * u[2] - 1) * (1 - width), (2 * u[3] - 1) * (1 - height)  # crop's centre
    mirror = torch.where(u[4] < views.flip, -1.0, 1.0)
    angle = (2 * u[5] - 1) * math.radians(views.rotation)
    cos, sin = angle.cos(), angle.sin()
    rows = [
        cos * width * mirror,
        -sin * height,
        left * cos - top * sin,
        sin * width * mirror,
        cos * height,
        left * sin + top * cos,
    ]
    return torch.stack(rows, 1).view(-1, 2, 3)


def sampling_grid(geometry: Tensor, size: int) -> Tensor:
    """Where the views of maps ``geometry`` (B, 2, 3) are read: (B, size, size, 2) in [-1, 1].

    ``F.affine_grid``'s, to the last bit on x86, in a quarter of its time: two sums over the whole batch in the place of
    a product with three columns for each image."""
    at = torch.linspace(-1, 1, size, device=geometry.device, dtype=geometry.dtype) * (size - 1) / size
    a, b, c = (geometry[:, :, i, None, None] for i in range(3))  # (B, 2, 1, 1)
    grid = (at * a + at[:, None] * b).add_(c)  # (B, 2, size, size)
    return grid.permute(0, 2, 3, 1)


def _colour(u: tuple[Tensor, ...], views: Views) -> tuple[Tensor, Tensor]:
    """Per image: the 3x3 matrix of brightness, saturation, hue and greying, and the contrast factor."""
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


# --- RandAugment ------------------------------------------------------------------------------------------------------


def _chosen(draws: Tensor, rand: RandAugment) -> list[tuple[Tensor, Tensor]]:
    """For each round, on the CPU: the operation's index (B,) and its sign (B,), from the numbers of jitter and grey."""
    u = draws.cpu()[:, 6 : 6 + 2 * rand.operations]
    return [
        ((u[:, 2 * n] * len(OPERATIONS)).long(), torch.where(u[:, 2 * n + 1] < 0.5, -1.0, 1.0))
        for n in range(rand.operations)
    ]


def _compose(geometry: Tensor, operation: Tensor, sign: Tensor, magnitude: float) -> Tensor:
    """``geometry`` (B, 2, 3), followed by the geometric operations among ``operation``."""
    one, zero = torch.ones_like(sign), torch.zeros_like(sign)

    def amount(name: str, most: float) -> Tensor:
        return torch.where(operation == OPERATIONS.index(name), sign * most * magnitude, zero)

    angle = amount("rotate", math.radians(30))
    # shear by 0.3, translation by 150 / 331 of the image (coordinates run over 2), rotation by 30 degrees
    rows = [
        angle.cos(),
        amount("shear_x", 0.3) - angle.sin(),
        amount("translate_x", 2 * 150 / 331),
        amount("shear_y", 0.3) + angle.sin(),
        angle.cos(),
        amount("translate_y", 2 * 150 / 331),
        zero,
        zero,
        one,
    ]
    return geometry @ torch.stack(rows, 1).view(-1, 3, 3).to(geometry.device, geometry.dtype)


def _recolour(x: Tensor, operation: Tensor, sign: Tensor, magnitude: float) -> Tensor:
    """Images (B, 3, H, W) after their operation of the others; each operation runs over its own images at once."""
    changed = x.clone()
    for index in operation.unique().tolist():
        change = COLOURS.get(OPERATIONS[index])
        if change is not None:
            rows = torch.nonzero(operation == index)[:, 0]
            factor = (1 + 0.9 * magnitude * sign[rows]).to(x.device, x.dtype)[:, None, None, None]
            rows = rows.to(x.device)
            changed[rows] = change(x[rows], factor, magnitude).clamp_(0, 1)
    return changed


def _luma(x: Tensor) -> Tensor:
    red, green, blue = x.unbind(1)
    return (GREY[0] * red + GREY[1] * green + GREY[2] * blue)[:, None]  # (B, 1, H, W)


def _blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return other + factor * (x - other)


def _contrast(x: Tensor, factor: Tensor, magnitude: float) -> Tensor:
    return _blend(x, _luma(x).mean((2, 3), keepdim=True), factor)


def _sharpness(x: Tensor, factor: Tensor, magnitude: float) -> Tensor:
    smooth = x.clone()  # the border stays
    smooth[:, :, 1:-1, 1:-1] = (9 * F.avg_pool2d(x, 3, 1) + 4 * x[:, :, 1:-1, 1:-1]) / 13
    return _blend(x, smooth, factor)


def _posterize(x: Tensor, factor: Tensor, magnitude: float) -> Tensor:
    levels = 2 ** (8 - round(4 * magnitude))
    return (x * levels).floor().clamp(max=levels - 1) / levels


def _solarize(x: Tensor, factor: Tensor, magnitude: float) -> Tensor:
    return torch.where(x >= 1 - magnitude, 1 - x, x)


def _autocontrast(x: Tensor, factor: Tensor, magnitude: float) -> Tensor:
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp(min=1e-6), x)


def _equalize(x: Tensor, factor: Tensor, magnitude: float) -> Tensor:
    """Histograms of 256 bins per channel, made flat (Pillow's way)."""
    bins = (x * 255).round().long().flatten(2)  # (B, 3, H W)
    counts = torch.zeros(*bins.shape[:2], 256, dtype=torch.long, device=x.device)
    counts.scatter_add_(2, bins, torch.ones_like(bins))
    last = counts.gather(2, bins.amax(2, keepdim=True))
    step = (bins.shape[2] - last) // 255  # (B, 3, 1)
    table = (counts.cumsum(2) - counts + step // 2) // step.clamp(min=1)
    even = table.clamp(0, 255).gather(2, bins).to(x.dtype).div(255).view_as(x)
    return torch.where(step[..., None] > 0, even, x)


COLOURS = {
    "brightness": lambda x, factor, magnitude: x * factor,
    "colour": lambda x, factor, magnitude: _blend(x, _luma(x), factor),
    "contrast": _contrast,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}
