"""What an edit loses of its source in the VAE, put back at the source's own size.

The difference between an edit and its source's round trip through the VAE is what the prompt did; its coarse part holds
light, colour and wear, its fine part mostly redrawn edges. With a cut-off the fine part comes from the source alone.
"""

from __future__ import annotations

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor


def restored(edit: Tensor, trip: Tensor, source: Tensor, share: float, sigma: float) -> Tensor:
    """An edit with its source's detail: ``(1 - share) edit + share (source + low-pass(edit - trip))``.

    At ``sigma`` 0 that is ``edit + share (source - trip)``: what the VAE lost is put back, all the edit drew is kept.

    Parameters
    ----------
    edit, trip
        (3, h, w) in [-1, 1]: the edit and its source's round trip, at the size the model works at.
    source
        (3, H, W) in [-1, 1], at its own size; ``edit`` and ``trip`` are resized to it (bicubic).
    share
        In [0, 1].
    sigma
        Of the Gaussian low-pass, in pixels of ``source``; the image is mirrored at its borders.

    Returns
    -------
    (3, H, W) float32; not clipped.
    """
    edit, trip = fitted(edit, source.shape[1:]), fitted(trip, source.shape[1:])  # (3, H, W)
    return edit + share * (source - trip - (_fine(edit - trip, sigma) if sigma else 0))


def matched(edit: Tensor, other: Tensor, sigma: float) -> Tensor:
    """An edit under the light of another: ``edit - low-pass(edit) + low-pass(other)``.

    What is finer than about ``sigma`` comes from ``edit`` (form, wear, grain), what is coarser from ``other`` (ground,
    light, colour), so that two edits of one source differ in what the part is alone.

    Parameters
    ----------
    edit, other
        (3, H, W) in [-1, 1].
    sigma
        Of the Gaussian low-pass, in pixels, above 0; images are mirrored at their borders.

    Returns
    -------
    (3, H, W) float32; not clipped.
    """
    return other + _fine(edit - other, sigma)


def fitted(image: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    """(3, h, w) -> (3, H, W), bicubic, low-passed where it shrinks; the same tensor where the size is the same."""
    if image.shape[1:] == tuple(size):
        return image
    return torch.nn.functional.interpolate(image[None], tuple(size), mode="bicubic", antialias=True)[0]


def _fine(difference: Tensor, sigma: float) -> Tensor:
    """(3, H, W) minus its Gaussian low-pass."""
    return difference - torch.from_numpy(gaussian_filter(difference.numpy(), (0, sigma, sigma), mode="reflect"))
