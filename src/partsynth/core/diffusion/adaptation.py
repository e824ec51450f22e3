"""A base model tuned on one's own photographs: its VAE, then its U-Net by a low-rank adapter.

The VAE learns to keep what photographs show while its latents stay near those that the U-Net knows. Both stop where
validation images say so, and end with the weights that did best on them: the ones they began with, if need be.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from partsynth.core.diffusion.adapted import UNET, VAE, apply
from partsynth.core.diffusion.denoising import Examples, tuning_loop
from partsynth.core.diffusion.lora import EVERYWHERE, adapter_weights, add_adapter, merge
from partsynth.core.diffusion.model import StableDiffusion
from partsynth.core.pretraining.loop import Log, Loop, State, draw_batch
from partsynth.core.pretraining.vae import mean_psnr, reconstruction_loss

KEEP = 0.3  # weight of the latents' mean squared distance from the base model's, in units of their own size


@dataclass(frozen=True)
class Settings:
    """How long and how strongly."""

    steps: int
    batch_size: int
    learning_rate: float
    every: int
    """Steps between two measurements on validation images."""
    patience: int
    """Measurements without a better one, after which it ends."""
    seed: int


@dataclass(frozen=True)
class Tuned:
    """What came of it, measured on validation images."""

    before: float
    after: float
    step: int
    """Of the weights that were kept; 0 = the base model's own."""
    weights: dict[str, Tensor]


def tune_vae(
    model: StableDiffusion, train: Tensor, val: Tensor, settings: Settings, state: State | None, log: Log
) -> Tuned:
    """Tune the model's VAE, in place; images are uint8 (N, S, S, 3). Measured by PSNR in dB.

    Weights are returned in float16, and the model has them so rounded.

    Raises
    ------
    FloatingPointError
        where the loss is not finite.
    """
    vae, device = model.vae, model.device
    train, val = train.to(device), val.to(device)
    before = mean_psnr(vae, val, _micro_batch(val))
    base = copy.deepcopy(vae)
    vae.requires_grad_(True)
    loop = _loop({"vae": vae}, settings, state, device)
    scale = vae.config.scaling_factor

    def loss_of(generator: torch.Generator) -> Tensor:
        batch, _ = draw_batch(train, settings.batch_size, generator)  # (B, 3, S, S)
        latents = vae.encode(batch).latent_dist.mean  # (B, C, h, w)
        with torch.no_grad():
            known = base.encode(batch).latent_dist.mean
        moved = ((latents - known) * scale).square().mean()
        return reconstruction_loss(vae.decode(latents).sample.float(), batch) + KEEP * moved

    loop.run(loss_of, log, settings.every, lambda: -mean_psnr(vae, val, _micro_batch(val)), settings.patience)
    vae.requires_grad_(False)
    weights = {f"{VAE}{name}": value.half().cpu() for name, value in vae.state_dict().items()}
    apply(model.vae, model.unet, weights)
    step = loop.best.step if loop.best else 0
    return Tuned(before, mean_psnr(vae, val, _micro_batch(val)), step, weights)


def tune_unet(
    model: StableDiffusion,
    train: tuple[Tensor, Sequence[str]],
    val: tuple[Tensor, Sequence[str]],
    rank: int,
    settings: Settings,
    state: State | None,
    log: Log,
) -> Tuned:
    """Tune the model's U-Net by an adapter, which is merged into it; ``train`` and ``val`` are scaled latents
    (N, C, h, w) and their prompts. Measured by the mean squared error of the U-Net's prediction.

    Raises
    ------
    FloatingPointError
        where the loss is not finite.
    ValueError
        where a prompt is too long for the text encoder.
    """
    learned = Examples(model, train[0], [[prompt] for prompt in train[1]])
    watched = Examples(model, val[0], [[prompt] for prompt in val[1]])
    add_adapter(model.unet, rank, EVERYWHERE, settings.seed)
    model.unet.to(model.device)
    before = watched.measure(settings.seed, settings.batch_size)
    loop = _loop({"unet": model.unet}, settings, state, model.device)
    loop.run(
        lambda generator: learned.draw(settings.batch_size, generator).mean(),
        log,
        settings.every,
        lambda: watched.measure(settings.seed, settings.batch_size),
        settings.patience,
    )
    best = loop.best
    assert best is not None  # it was measured before the first step
    weights = adapter_weights(model.unet)
    model.unet.unload_lora()
    merge(model.unet, weights)
    return Tuned(before, best.value, best.step, {f"{UNET}{name}": value for name, value in weights.items()})


def _loop(modules: dict[str, Any], settings: Settings, state: State | None, device: torch.device) -> Loop:
    return tuning_loop(
        modules,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        every=settings.every,
        seed=settings.seed,
        state=state,
        device=device,
    )


def _micro_batch(images: Tensor) -> int:
    """As many images per pass as ``StableDiffusion.encode`` takes."""
    return max(1, min(16, 2**21 // math.prod(images.shape[1:3])))
