"""Stable Diffusion as its parts (VAE, U-Net, prompt encoder) and the few things done with them.

Papers: latent diffusion (arXiv 2112.10752), DDIM (2010.02502), SDEdit (2108.01073), classifier-free guidance
(2207.12598), v-prediction (2202.00512).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from partsynth.core.diffusion.images import padded
from partsynth.core.diffusion.two_encoders import PromptPair
from partsynth.core.diffusion.words import PromptEncoder

PREDICTIONS = ("epsilon", "v_prediction")
MICRO_BATCH = 8  # images in a pass of the VAE: a batch of edits has few sources, and the last pass is padded
FEWEST = 6  # steps of an edit, however weak: one alone leaves the noise of its start half in


class StableDiffusion:
    """A loaded model: the U-Net computes in ``dtype``, VAE and text encoder in float32 (halving them saves little)."""

    def __init__(
        self, vae: Any, unet: Any, prompts: PromptEncoder | PromptPair, scheduler: Any, dtype: torch.dtype
    ) -> None:
        from diffusers import DDIMScheduler

        if unet.config.in_channels != vae.config.latent_channels:
            raise ValueError(
                f"the U-Net takes {unet.config.in_channels} channels, the VAE makes {vae.config.latent_channels}: "
                "inpainting and depth models are not supported"
            )
        ddim = DDIMScheduler.from_config(scheduler.config)
        self.prediction = ddim.config.prediction_type
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"prediction type {self.prediction!r}; allowed: {', '.join(PREDICTIONS)}")
        self.alphas = ddim.alphas_cumprod.double().tolist()  # alpha bar of each of the T timesteps
        self.vae, self.unet = vae, unet
        self.device, self.dtype = unet.device, dtype
        self.prompts = prompts
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)  # pixels per latent, of a side
        # channels last is the VAE's faster layout everywhere (a quarter on CPUs), the U-Net's on a GPU alone
        self.layout = torch.channels_last if self.device.type == "cuda" else torch.contiguous_format
        for part in (vae, unet, *prompts.encoders):
            part.eval().requires_grad_(False)
        unet.to(memory_format=self.layout)
        vae.to(memory_format=torch.channels_last)

    # --- images and latents ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] -> scaled latents (N, C, H / f, W / f) float32: the posterior's mean, no noise."""
        scale = self.vae.config.scaling_factor
        return self._in_micro_batches(images, images.shape[2:], lambda x: self.vae.encode(x).latent_dist.mean * scale)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (N, C, h, w) -> (N, 3, H, W) in [-1, 1] (clipped) float32."""
        sides = [side * self.factor for side in latents.shape[2:]]
        scale = self.vae.config.scaling_factor
        return self._in_micro_batches(latents, sides, lambda z: self.vae.decode(z / scale).sample.clamp(-1, 1))

    def _in_micro_batches(self, x: Tensor, sides: Sequence[int], work: Callable[[Tensor], Tensor]) -> Tensor:
        # one shape per image size, so that an image's bytes do not depend on how many came with it
        size = max(1, min(MICRO_BATCH, 2**21 // math.prod(sides)))
        done = []
        for indices, count in padded(len(x), size):
            part = x[indices].to(self.device, torch.float32, memory_format=torch.channels_last)
            done.append(work(part)[:count].contiguous())
        return torch.cat(done)

    # --- the diffusion --------------------------------------------------------------------------------------------

    def timesteps(self, strength: float, steps: int) -> list[int]:
        """Timesteps visited, from the noisiest down, evenly spaced: round(strength x steps) of them, but at least
        ``FEWEST`` (of fewer steps, or of a T that is nearer, as many as there are).

        The convention of strengths: the first is exactly ``strength`` of the schedule's T (to 1 / T), whatever the
        number of steps. In diffusers' img2img it is a multiple of T / steps below that, so that the same strength
        starts less noisy there: 0.25 of 25 steps at t = 201 of 1,000, here at 249.
        """
        total = len(self.alphas)
        count = max(1, round(strength * steps), min(FEWEST, steps, round(strength * total)))
        return [max(0, round(strength * total * (count - i) / count) - 1) for i in range(count)]

    def split(self, output: Tensor, noisy: Tensor, alpha: float | Tensor) -> tuple[Tensor, Tensor]:
        """The U-Net's output at ``alpha`` as (clean latents, noise). arXiv 2010.02502 eq. 12; 2202.00512 sec. 4."""
        a, b = _roots(alpha)
        if self.prediction == "epsilon":
            return (noisy - b * output) / a, output
        return a * noisy - b * output, a * output + b * noisy

    @torch.no_grad()
    def sdedit(
        self,
        latents: Tensor,
        context: Tensor,
        seeds: Sequence[int],
        strength: float | Sequence[float],
        guidance: float,
        steps: int,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Noise latents to ``strength`` of the schedule and denoise them under a prompt by DDIM (eta = 0).

        Parameters
        ----------
        latents
            (B, C, h, w), scaled. An image's bytes depend on B: keep it fixed (see ``padded``).
        context
            (B, L, D), from ``embed``.
        seeds
            B seeds; each image's noise has its own CPU generator.
        strength
            In [0, 1]. 0 returns the latents as they are; 1 starts from pure noise, with nothing of the source.
            Or one per image: the batch takes as many steps as its longest edit, and what is done early waits. (On
            the CPU that gives the same bytes as one strength for all; a GPU divides by a tensor otherwise than by a
            number.)
        guidance
            w of eps_uncond + w (eps - eps_uncond); 0 and 1 = no guidance, the prompt alone (as in diffusers), and half
            the time.
        mask
            (B, 1, h, w) in {0, 1}: where 0, each step puts the source back, noised as far as the step.

        Raises
        ------
        FloatingPointError
            where a latent is not finite, naming the seeds.
        """
        latents = latents.to(self.device, torch.float32)
        each, guided = isinstance(strength, Sequence), guidance not in (0, 1)
        strengths = list(strength) if isinstance(strength, Sequence) else [strength]
        plans = [self.timesteps(s, steps) if s else [] for s in strengths]

        def column(values: list[float]) -> float | Tensor:
            """The batch's number, or one per image (B, 1, 1, 1)."""
            return (
                torch.tensor(values, dtype=torch.float64, device=self.device).view(-1, 1, 1, 1) if each else values[0]
            )

        noise = torch.stack([self.noise(seed, latents.shape[1:]) for seed in seeds])  # (B, C, h, w)
        if guided:
            context = torch.cat([self.prompts.embed("").expand_as(context), context])  # (2 B, L, D)
        context = context.to(self.dtype)
        starts = [0.0 if s == 1 else self.alphas[p[0]] if p else 1.0 for s, p in zip(strengths, plans, strict=True)]
        x = self.mix(latents, noise, column(starts))
        for n in range(max(map(len, plans))):
            times = [plan[min(n, len(plan) - 1)] if plan else 0 for plan in plans]
            alpha = column([self.alphas[t] for t in times])
            later = column([self.alphas[plan[n + 1]] if n + 1 < len(plan) else 1.0 for plan in plans])
            if mask is not None:
                x = torch.where(mask.bool(), x, self.mix(latents, noise, alpha))
            both = torch.cat([x, x]) if guided else x  # (2 B, C, h, w): without and with the prompt
            out = self.predict(both, torch.tensor(times).repeat(len(both) // len(times)), context)
            if guided:
                without, out = out.chunk(2)  # (B, C, h, w) each
                out = without + guidance * (out - without)
            after = self.mix(*self.split(out, x, alpha), later)
            running = torch.tensor([n < len(plan) for plan in plans], device=self.device).view(-1, 1, 1, 1)
            x = torch.where(running, after, x) if each else after
        if mask is not None:
            x = torch.where(mask.bool(), x, latents)
        bad = [seed for seed, fine in zip(seeds, x.isfinite().flatten(1).all(1).tolist(), strict=True) if not fine]
        if bad:
            raise FloatingPointError(f"not finite after denoising in {self.dtype}: seeds {bad}")
        return x

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], guidance: float, steps: int, size: int, batch_size: int = 32
    ) -> Tensor:
        """Images (N, 3, size, size) in [-1, 1] from the prompts alone, out of pure noise."""
        side = size // self.factor
        done = []
        for indices, count in padded(len(prompts), batch_size):
            empty = torch.zeros(batch_size, self.unet.config.in_channels, side, side)
            context = torch.stack([self.prompts.embed(prompts[i]) for i in indices])
            done.append(self.sdedit(empty, context, [seeds[i] for i in indices], 1.0, guidance, steps)[:count])
        return self.decode(torch.cat(done))

    def noise(self, seed: int, shape: Sequence[int]) -> Tensor:
        """Standard normal noise of one image, drawn on the CPU: the same on every device."""
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(self.device)

    @staticmethod
    def mix(clean: Tensor, noise: Tensor, alpha: float | Tensor) -> Tensor:
        """sqrt(alpha) x clean + sqrt(1 - alpha) x noise."""
        a, b = _roots(alpha)
        return a * clean + b * noise

    def predict(self, noisy: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """The U-Net's output (B, C, h, w) float32 for noisy latents at timesteps (B,) under contexts (B, L, D)."""
        x = noisy.to(self.dtype, memory_format=self.layout)
        return self.unet(x, t.to(self.device), encoder_hidden_states=context.to(self.dtype)).sample.float()


def _roots(alpha: float | Tensor) -> tuple[Any, Any]:
    """sqrt(alpha), sqrt(1 - alpha), of a number or of a float64 tensor (then float32)."""
    if isinstance(alpha, Tensor):
        return alpha.sqrt().float(), (1 - alpha).sqrt().float()
    return math.sqrt(alpha), math.sqrt(1 - alpha)
