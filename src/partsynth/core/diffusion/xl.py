"""Stable Diffusion XL (arXiv 2307.01952): its U-Net also takes a pooled vector of the prompt and the image's size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from partsynth.core.diffusion.model import StableDiffusion
from partsynth.core.diffusion.two_encoders import PromptPair


class StableDiffusionXL(StableDiffusion):
    """See the module; contexts are those of ``PromptPair``.

    Raises
    ------
    ValueError
        where the U-Net takes other conditioning, or the VAE's latents are shifted.
    """

    prompts: PromptPair

    def __init__(self, vae: Any, unet: Any, prompts: PromptPair, scheduler: Any, dtype: torch.dtype) -> None:
        super().__init__(vae, unet, prompts, scheduler, dtype)
        taken = unet.add_embedding.linear_1.in_features if getattr(unet, "add_embedding", None) is not None else 0
        given = 6 * (unet.config.addition_time_embed_dim or 0) + prompts.pooled
        if taken != given:
            raise ValueError(f"its U-Net takes {taken} numbers beside the prompt, an SDXL base model's takes {given}")
        if getattr(vae.config, "latents_mean", None) is not None:
            raise ValueError("its VAE's latents have means of their own (latents_mean), which is not supported")

    def predict(self, noisy: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """As ``StableDiffusion.predict``; the image counts as one of its own size, not cropped."""
        x = noisy.to(self.dtype, memory_format=self.layout)
        height, width = (side * self.factor for side in noisy.shape[2:])
        sizes = torch.tensor([height, width, 0, 0, height, width], device=self.device, dtype=torch.float32)
        told = context.to(self.dtype)
        added = {
            "text_embeds": told[:, -1, : self.prompts.pooled],  # (B, P)
            "time_ids": sizes.expand(len(noisy), -1),  # (B, 6)
        }
        out = self.unet(x, t.to(self.device), encoder_hidden_states=told[:, :-1], added_cond_kwargs=added)
        return out.sample.float()
