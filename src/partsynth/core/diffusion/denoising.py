"""What a U-Net learns from: latents noised to random timesteps, and the error of its prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from partsynth.core.diffusion.model import StableDiffusion
from partsynth.core.pretraining.loop import Loop, State

WARMUP = 20  # steps in which the learning rate rises
EMPTY_PROMPTS = 0.1  # share of images learned without a prompt, for classifier-free guidance
DRAWS = 4  # of noise per image, where an error is measured


def tuning_loop(
    modules: dict[str, Any],
    *,
    steps: int,
    learning_rate: float,
    every: int,
    seed: int,
    state: State | None,
    device: torch.device,
) -> Loop:
    """The loop that tunes parts of a base model on few images; ``every``: steps between two saved states."""
    return Loop(
        modules,
        steps=steps,
        learning_rate=learning_rate,
        device=device.type,
        seed=seed % 2**31,  # torch's own are of 64 bits, and the loop multiplies
        state=state,
        warmup=WARMUP,
        weight_decay=0.0,
        every=every,
        mixed=device.type == "cuda",
    )


class Examples:
    """Latents with their prompts.

    Parameters
    ----------
    latents : scaled (N, C, h, w)
    prompts : of each image, those to choose from

    Raises
    ------
    ValueError
        where a prompt is too long for the text encoder.
    """

    def __init__(self, model: StableDiffusion, latents: Tensor, prompts: Sequence[Sequence[str]]) -> None:
        self.model, self.latents = model, latents.to(model.device)
        words = ["", *sorted({prompt for choice in prompts for prompt in choice})]
        self._contexts = torch.stack([model.prompts.embed(prompt) for prompt in words])  # (P, L, D)
        place = {prompt: i for i, prompt in enumerate(words)}
        self._choices = [[place[prompt] for prompt in choice] for choice in prompts]

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Errors (count,) of images, prompts, timesteps and noise drawn anew."""
        draw: dict[str, Any] = {"generator": generator, "device": self.latents.device}
        index = torch.randint(len(self.latents), (count,), **draw)
        turn = torch.rand(count, **draw)
        empty = torch.rand(count, **draw) < EMPTY_PROMPTS
        which = [
            0 if none else self._choices[i][int(t * len(self._choices[i]))]
            for i, t, none in zip(index.tolist(), turn.tolist(), empty.tolist(), strict=True)
        ]
        return self._errors(index, torch.tensor(which), generator)

    @torch.no_grad()
    def measure(self, seed: int, batch_size: int) -> float:
        """The mean error over all images, DRAWS times each, under their first prompts; the same draws for a seed."""
        generator = torch.Generator(device=self.latents.device).manual_seed(seed)
        index = torch.arange(len(self.latents)).repeat(DRAWS)
        which = torch.tensor([choice[0] for choice in self._choices]).repeat(DRAWS)
        parts = zip(index.split(batch_size), which.split(batch_size), strict=True)
        return torch.cat([self._errors(i, w, generator) for i, w in parts]).mean().item()

    def _errors(self, index: Tensor, which: Tensor, generator: torch.Generator) -> Tensor:
        device = self.latents.device
        latents, contexts = self.latents[index.to(device)], self._contexts[which.to(device)]
        return denoising_errors(self.model, latents, contexts, generator)


def denoising_errors(model: StableDiffusion, latents: Tensor, contexts: Tensor, generator: torch.Generator) -> Tensor:
    """Mean squared error (B,) of the U-Net's prediction for latents (B, C, h, w) noised to random timesteps."""
    draw: dict[str, Any] = {"generator": generator, "device": latents.device}
    times = torch.randint(len(model.alphas), (len(latents),), **draw)
    noise = torch.randn(latents.shape, **draw)
    alphas = torch.tensor(model.alphas, dtype=torch.float32, device=latents.device)[times].view(-1, 1, 1, 1)
    a, b = alphas.sqrt(), (1 - alphas).sqrt()
    target = noise if model.prediction == "epsilon" else a * noise - b * latents
    made = model.predict(a * latents + b * noise, times, contexts)
    return (made - target).square().mean((1, 2, 3))
