"""Images as the diffusion model takes them: tensors in [-1, 1], masks of latents, batches of one fixed shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor


def padded(count: int, size: int) -> Iterator[tuple[list[int], int]]:
    """Batches of exactly ``size`` indices of ``range(count)``, the last one padded with its last; and how many count.

    An image's floating-point result can depend on the shape of its batch, so that shape never changes.
    """
    for start in range(0, count, size):
        indices = list(range(start, min(start + size, count)))
        yield indices + indices[-1:] * (size - len(indices)), len(indices)


def to_tensor(images: Sequence[Image.Image], size: int) -> Tensor:
    """PIL images -> (N, 3, size, size) in [-1, 1], resized where they have another size (bicubic)."""
    fitted = [i if i.size == (size, size) else i.resize((size, size), Image.Resampling.BICUBIC) for i in images]
    return torch.stack([to_pixels(image) for image in fitted])  # (N, 3, size, size)


def to_pixels(image: Image.Image) -> Tensor:
    """A PIL image -> (3, H, W) in [-1, 1], at its own size."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 127.5 - 1


def to_images(images: Tensor) -> list[Image.Image]:
    """(N, 3, H, W) in [-1, 1] -> PIL images."""
    return [Image.fromarray(a) for a in to_bytes(images).cpu().numpy()]


def to_bytes(images: Tensor) -> Tensor:
    """(N, 3, H, W) in [-1, 1] -> uint8 (N, H, W, 3)."""
    levels = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1)  # (N, H, W, 3)


def latent_mask(mask: Image.Image, size: int, factor: int) -> Tensor:
    """A mask (part > 127) -> (1, size / factor, size / factor) of {0, 1}: 1 where a latent sees the part."""
    fitted = mask.convert("L").resize((size, size), Image.Resampling.NEAREST)
    part = torch.from_numpy(np.array(fitted) > 127).float()[None, None]  # (1, 1, size, size)
    return torch.nn.functional.max_pool2d(part, factor)[0]


def inverted(mask: Image.Image) -> Image.Image:
    """White where the mask (part > 127) has no part, black elsewhere."""
    return mask.convert("L").point(lambda v: 0 if v > 127 else 255)


def feathered(mask: Image.Image, sigma: float) -> Image.Image:
    """The mask (> 127) as a weight of 0 to 255 that rises from its edge inwards; 0 outside it, whatever ``sigma`` is.

    clip(2 G(mask) - 1, 0, 1), G a Gaussian of ``sigma`` pixels: 0 at a straight edge, nearly 1 two sigma inside. The
    image's border is no edge.
    """
    inside = np.asarray(mask.convert("L")) > 127  # (H, W)
    if not sigma:
        return Image.fromarray(np.where(inside, 255, 0).astype(np.uint8))
    soft = gaussian_filter(inside.astype(np.float64), sigma, mode="nearest")
    return Image.fromarray(np.where(inside, (510 * soft - 255).clip(0, 255).round(), 0).astype(np.uint8))


def paste(edited: Image.Image, original: Image.Image, weight: Image.Image) -> Image.Image:
    """``edited`` where the weight is 255, ``original``'s own pixels where it is 0, between them a mix; of one size."""
    return Image.composite(edited, original, weight)
