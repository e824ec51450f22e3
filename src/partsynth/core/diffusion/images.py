"""Images as the diffusion model takes them: tensors in [-1, 1], masks of latents, batches of one fixed shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
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


def paste(edited: Image.Image, original: Image.Image, mask: Image.Image) -> Image.Image:
    """``edited`` where the mask is above 127, ``original``'s own pixels elsewhere; all of one size."""
    return Image.composite(edited, original, mask.convert("L").point(lambda v: 255 if v > 127 else 0))
