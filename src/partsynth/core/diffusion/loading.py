"""Stable Diffusion 1.x/2.x loaded from a folder in diffusers' format, or from the hub."""

from __future__ import annotations

from pathlib import Path

import torch

from partsynth.core.devices import pick
from partsynth.core.diffusion.folder import PARTS, check_folder
from partsynth.core.diffusion.model import StableDiffusion


def load(
    model: str | Path,
    revision: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    adaptation: Path | None = None,
) -> StableDiffusion:
    """Load Stable Diffusion 1.x/2.x in diffusers' format.

    Parameters
    ----------
    model
        A local folder, or a hub id (then ``revision`` is a branch, tag or commit).
    device
        cpu, cuda or auto (cuda where there is one).
    dtype
        What the U-Net computes in: float32, bfloat16 or float16.
    adaptation
        A file of weights that tune the model (``core.diffusion.adaptation``).

    Raises
    ------
    FileNotFoundError
        where the folder or one of its parts is missing.
    ValueError
        where it is another kind of pipeline, or cannot be read.
    """
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    variant = check_folder(Path(model)) if Path(model).exists() else None
    device = pick(device)
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            str(model),
            revision=revision,
            variant=variant,
            dtype=torch.float32,
            use_safetensors=True,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    except Exception as error:  # diffusers, transformers and the hub raise whatever they please
        raise ValueError(f"{model} cannot be loaded as a Stable Diffusion 1.x/2.x: {error}") from error
    if adaptation is not None:
        from safetensors.torch import load_file

        from partsynth.core.diffusion.adapted import apply

        apply(pipeline.vae, pipeline.unet, load_file(adaptation))
    wanted = getattr(torch, dtype)
    pipeline.unet.to(device, wanted)
    pipeline.vae.to(device)
    pipeline.text_encoder.to(device)
    vae, unet, text_encoder, tokenizer, scheduler = (getattr(pipeline, part) for part in PARTS)
    return StableDiffusion(vae, unet, text_encoder, tokenizer, scheduler, wanted)
