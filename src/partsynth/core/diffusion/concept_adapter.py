"""A class learned as a low-rank adapter of the U-Net (LoRA, arXiv 2106.09685), with DreamBooth's prior preservation
(arXiv 2208.12242) where images of the class's kind are given, made by the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from partsynth.core.diffusion.denoising import Examples, tuning_loop
from partsynth.core.diffusion.images import padded
from partsynth.core.diffusion.lora import adapter_weights, add_adapter
from partsynth.core.diffusion.model import StableDiffusion
from partsynth.core.pretraining.loop import Log, State

PRIOR_GUIDANCE, PRIOR_STEPS, PRIOR_BATCH = 4.0, 25, 8


@dataclass(frozen=True)
class AdapterSettings:
    """How a class is learned."""

    rank: int
    targets: tuple[str, ...]
    """Ends of the names of the layers that get an adapter."""
    steps: int
    batch_size: int
    learning_rate: float
    every: int
    """Steps between two saved states."""
    seed: int
    prior_weight: float = 0.0
    """Of the error on the prior's images."""


def prior_latents(model: StableDiffusion, prompt: str, seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Latents (N, C, h, w) that the model makes from a prompt alone, one for each seed; ``shape`` is (C, h, w)."""
    done = []
    for indices, count in padded(len(seeds), PRIOR_BATCH):
        empty = torch.zeros(PRIOR_BATCH, *shape)
        context = model.prompts.embed(prompt).expand(PRIOR_BATCH, -1, -1)
        chosen = [seeds[i] for i in indices]
        done.append(model.sdedit(empty, context, chosen, 1.0, PRIOR_GUIDANCE, PRIOR_STEPS)[:count])
    return torch.cat(done)


def learn_adapter(
    model: StableDiffusion,
    latents: Tensor,
    prompts: Sequence[Sequence[str]],
    settings: AdapterSettings,
    state: State | None,
    log: Log,
    prior: tuple[Tensor, str] | None = None,
) -> tuple[dict[str, Tensor], float, float]:
    """An adapter's weights, and the error on the class's own images without and with it; the model is left as it was.

    Parameters
    ----------
    latents : of the class's images, scaled (N, C, h, w)
    prompts : of each image, those to choose from
    prior : latents that the model itself made of the class's kind, and the prompt they were made from

    Raises
    ------
    FloatingPointError
        where the loss is not finite.
    ValueError
        where a prompt is too long for the text encoder.
    """
    own = Examples(model, latents, prompts)
    kind = None if prior is None else Examples(model, prior[0], [[prior[1]]] * len(prior[0]))
    before = own.measure(settings.seed, settings.batch_size)
    add_adapter(model.unet, settings.rank, settings.targets, settings.seed)
    try:
        model.unet.to(model.device)
        loop = tuning_loop(
            {"unet": model.unet},
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            every=settings.every,
            seed=settings.seed,
            state=state,
            device=model.device,
        )

        def loss_of(generator: torch.Generator) -> Tensor:
            loss = own.draw(settings.batch_size, generator).mean()
            if kind is not None:
                loss = loss + settings.prior_weight * kind.draw(settings.batch_size, generator).mean()
            return loss

        loop.run(loss_of, log, settings.every)
        return adapter_weights(model.unet), before, own.measure(settings.seed, settings.batch_size)
    finally:
        model.unet.unload_lora()
        model.unet.requires_grad_(False)
