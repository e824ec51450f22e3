"""Section base: how the embedded base model was made."""

from __future__ import annotations

from partsynth.config.base import Count, Fraction, Section, Seed


class Base(Section):
    """Training of the embedded Stable Diffusion and reference encoder (frozen stage)."""

    seed: Seed = 0
    """Draws the corpus, initial weights and batches."""
    images: Count = 20000
    """Rendered images of the training corpus."""
    size: Count = 64
    """Pixels per side."""
    vae_images: Count = 7500
    """Images of the corpus, from its first on, that the VAE is trained on."""
    vae_steps: Count = 8000
    """Optimiser steps of the VAE."""
    vae_batch_size: Count = 64
    """Batch size of the VAE."""
    unet_steps: Count = 24000
    """Optimiser steps of the U-Net."""
    batch_size: Count = 512
    """Batch size of the U-Net."""
    reference_steps: Count = 4000
    """Optimiser steps of the reference encoder."""
    reference_tune_steps: Count = 800
    """Further steps of it, on images that went through the VAE and training's views."""
    reference_tune_images: Count = 10000
    """Images of the corpus, from its first on, in those further steps."""
    caption_dropout: Fraction = 0.1
    """Share of the captions left empty, so that classifier-free guidance works."""
    ema: Fraction = 0.9995
    """Decay of the U-Net's moving average of weights, which is what is kept."""
    workers: Count | None = None
    """Processes that render the corpus; null = one per core."""
