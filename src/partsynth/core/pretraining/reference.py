"""Training of the embedded reference encoder."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from partsynth.core.contrastive.losses import supcon_loss
from partsynth.core.drift.reference import ReferenceNet
from partsynth.core.images import views
from partsynth.core.pretraining.loop import Log, Loop, State, as_floats


def train_reference(
    images: Tensor,
    variants: Tensor,
    *,
    steps: int,
    seed: int,
    state: State | None,
    log: Log,
    variants_per_step: int = 48,
    images_per_variant: int = 4,
) -> ReferenceNet:
    """SupCon over feature variants (labels (N,) int64); spoilt copies (blur, noise, inverted) join as negatives only.

    Without the spoilt copies nothing would make the encoder tell an image of a part from a broken image of it.
    """
    torch.manual_seed(seed)
    net = ReferenceNet().to(memory_format=torch.channels_last)
    device = images.device.type
    loop = Loop({"net": net}, steps=steps, learning_rate=2e-3, device=device, seed=seed, state=state, ema=0.999)
    sampler = VariantSampler(variants)

    def loss_of(generator: torch.Generator) -> Tensor:
        index = sampler.draw(variants_per_step, images_per_variant, generator)
        batch = _gentle_views(as_floats(images[index]), generator)
        return _spoilt_supcon(net, batch, batch[::images_per_variant], variants[index], images_per_variant, generator)

    loop.run(loss_of, log)
    return net.eval()


def tune_reference(
    net: ReferenceNet,
    images: Tensor,
    round_trips: Tensor,
    variants: Tensor,
    families: Tensor,
    *,
    steps: int,
    seed: int,
    state: State | None,
    log: Log,
    variants_per_step: int = 32,
    images_per_variant: int = 4,
) -> ReferenceNet:
    """Go on with images as edits and training show them: half through the VAE, half in training's views.

    ``round_trips`` are ``images`` (N, S, S, 3) after the VAE, ``families`` (N,) int64. Every other step draws its
    variants from as few families as hold enough, so that siblings are told apart. Without this a real part in grey or
    through the VAE lay further from its class than another part does, and drift said little.
    """
    net.train().requires_grad_(True)
    loop = Loop(
        {"net": net},
        steps=steps,
        learning_rate=1e-3,
        device=images.device.type,
        seed=seed,
        state=state,
        ema=0.99,
        warmup=50,
        every=100,
    )
    sampler = VariantSampler(variants, families)

    def loss_of(generator: torch.Generator) -> Tensor:
        index = sampler.draw(variants_per_step, images_per_variant, generator)
        n = len(index)
        draw: dict[str, Any] = {"generator": generator, "device": images.device}
        chance = torch.rand(2, n, 1, 1, 1, **draw)
        batch = torch.where(chance[0] < 0.5, as_floats(images[index]), as_floats(round_trips[index]))
        gentle = _gentle_views(batch, generator)
        wide = views.augment((batch + 1) / 2, torch.rand(n, views.DRAWS, **draw)) * 2 - 1
        seen = torch.where(chance[1] < 0.5, gentle, wide)
        return _spoilt_supcon(net, seen, gentle[::images_per_variant], variants[index], images_per_variant, generator)

    loop.run(loss_of, log, log_every=20)
    return net.eval()


class VariantSampler:
    """Draws images by variant (labels (N,) int64); variants of one image are left out."""

    def __init__(self, variants: Tensor, families: Tensor | None = None) -> None:
        self.order = torch.argsort(variants, stable=True)
        self.sizes = torch.bincount(variants)
        self.starts = torch.cumsum(self.sizes, 0) - self.sizes
        self.usable = torch.nonzero(self.sizes >= 2)[:, 0]
        self.families = None if families is None else families[self.order[self.starts[self.usable]]]

    def draw(self, count: int, each: int, generator: torch.Generator) -> Tensor:
        """Indices of ``each`` images of up to ``count`` variants, a variant's side by side."""
        draw: dict[str, Any] = {"generator": generator, "device": self.order.device}
        rank = torch.rand(len(self.usable), **draw)
        if self.families is not None:
            kinds = int(self.families.max()) + 1
            siblings = (torch.rand((), **draw) < 0.5).float()
            rank = rank + siblings * torch.randperm(kinds, **draw)[self.families]  # family after family
        chosen = self.usable[torch.argsort(rank)[:count]]
        offsets = (torch.rand(len(chosen), each, **draw) * self.sizes[chosen, None]).long()
        return self.order[self.starts[chosen, None] + offsets].flatten()


def _spoilt_supcon(
    net: ReferenceNet, batch: Tensor, whole: Tensor, labels: Tensor, each: int, generator: torch.Generator
) -> Tensor:
    """SupCon of the batch, with spoilt copies of ``whole`` (every ``each``-th image) as negatives of their class."""
    features = net(torch.cat([batch, spoil(whole, generator)]).contiguous(memory_format=torch.channels_last))
    labels = torch.cat([labels, labels[::each]])
    negative = torch.arange(len(labels), device=labels.device) >= len(batch)
    return supcon_loss(features[:, None], labels, negative, temperature=0.1)


def _gentle_views(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrored, zoomed by up to 12 %, shifted by up to 4 %, brightness and contrast by up to 10 %."""
    n, device = len(batch), batch.device
    uniform = torch.rand(6, n, generator=generator, device=device) * 2 - 1
    flip = torch.where(uniform[0] < 0, -1.0, 1.0)
    zoom = 0.94 + 0.06 * uniform[1]
    theta = torch.zeros(n, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1] = flip * zoom, zoom
    theta[:, 0, 2], theta[:, 1, 2] = 0.08 * uniform[2], 0.08 * uniform[3]
    moved = F.grid_sample(
        batch, F.affine_grid(theta, list(batch.shape), align_corners=False), padding_mode="border", align_corners=False
    )
    gain, shift = 1 + 0.1 * uniform[4].view(-1, 1, 1, 1), 0.1 * uniform[5].view(-1, 1, 1, 1)
    return (moved * gain + shift).clamp(-1, 1)


def spoil(batch: Tensor, generator: torch.Generator) -> Tensor:
    """A third of the images blurred, a third noisy, a third with exposure upside down."""
    kind = torch.arange(len(batch), device=batch.device) % 3
    kind = kind[torch.randperm(len(batch), generator=generator, device=batch.device)].view(-1, 1, 1, 1)
    blurred = F.interpolate(F.avg_pool2d(batch, 4), scale_factor=4, mode="bilinear")
    noisy = (batch + 0.5 * torch.randn(batch.shape, generator=generator, device=batch.device)).clamp(-1, 1)
    return torch.where(kind == 0, blurred, torch.where(kind == 1, noisy, -batch))
