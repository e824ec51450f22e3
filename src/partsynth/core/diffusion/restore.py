"""What an edit loses of its source in the VAE, put back at the source's own size.

The difference between an edit and its source's round trip through the VAE is what the prompt did; its coarse part holds
light, colour and wear, its fine part mostly redrawn edges. With a cut-off the fine part comes from the source alone.
"""

from __future__ import annotations

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

GRAIN = 2.0  # pixels of the source
LUMA = (0.299, 0.587, 0.114)


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


def grained(edit: Tensor, trip: Tensor, source: Tensor, share: float) -> Tensor:
    """An edit of another form with its source's grain: ``edit + share gain (source - trip)``.

    What the VAE loses is grain everywhere and, along the source's edges, their sharpness, which would stand in an image
    of another form as a ghost of the source's outline. ``gain = min(1, m / r)``, r the root mean square within about
    GRAIN pixels and m its median over the image, brings edges down to the level of the grain.

    Parameters
    ----------
    As those of ``restored``.

    Returns
    -------
    (3, H, W) float32; not clipped.
    """
    edit, trip = fitted(edit, source.shape[1:]), fitted(trip, source.shape[1:])  # (3, H, W)
    lost = source - trip
    power = gaussian_filter(lost.square().mean(0).numpy(), GRAIN, mode="reflect")  # (H, W)
    level = torch.from_numpy(power).clamp(min=1e-12).sqrt()
    return edit + share * (level.median() / level).clamp(max=1) * lost


def matched(edit: Tensor, other: Tensor, source: Tensor, sigma: float) -> Tensor:
    """An edit under the light of another: ``edit - low-pass(edit) + low-pass(other)``, as colourful as its source.

    What is finer than about ``sigma`` comes from ``edit`` (form, grain), what is coarser from ``other`` (ground, light,
    colour), so that two edits of one source differ in what the part is alone. Of the fine part the colours (what is
    left of it without its luma, Rec. 601) are scaled down to the root mean square of the source's where they are
    stronger: an edit that paints grey parts on a green ground would have them red on any other.

    Parameters
    ----------
    edit, other, source
        (3, H, W) in [-1, 1].
    sigma
        Of the Gaussian low-pass, in pixels, above 0; images are mirrored at their borders.

    Returns
    -------
    (3, H, W) float32; not clipped.
    """
    luma, colour = _parts(_fine(edit, sigma))
    _, usual = _parts(_fine(source, sigma))
    share = (usual.square().mean().sqrt() / colour.square().mean().sqrt().clamp(min=1e-9)).clamp(max=1)
    return other - _fine(other, sigma) + luma + share * colour


def _parts(image: Tensor) -> tuple[Tensor, Tensor]:
    """(3, H, W) as its luma (1, H, W) and the rest (3, H, W)."""
    luma = (torch.tensor(LUMA).view(3, 1, 1) * image).sum(0, keepdim=True)
    return luma, image - luma


def fitted(image: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    """(3, h, w) -> (3, H, W), bicubic, low-passed where it shrinks; the same tensor where the size is the same."""
    if image.shape[1:] == tuple(size):
        return image
    return torch.nn.functional.interpolate(image[None], tuple(size), mode="bicubic", antialias=True)[0]


def _fine(difference: Tensor, sigma: float) -> Tensor:
    """(3, H, W) minus its Gaussian low-pass."""
    return difference - torch.from_numpy(gaussian_filter(difference.numpy(), (0, sigma, sigma), mode="reflect"))
