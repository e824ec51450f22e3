"""Stable Diffusion loaded from a folder in diffusers' format, or from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from partsynth.core.devices import pick
from partsynth.core.diffusion.folder import (
    STABLE_DIFFUSION,
    STABLE_DIFFUSION_XL,
    Family,
    check_folder,
    check_single_file,
    family_of,
)
from partsynth.core.diffusion.model import StableDiffusion
from partsynth.core.diffusion.two_encoders import HiddenStates, PromptPair
from partsynth.core.diffusion.words import PromptEncoder
from partsynth.core.diffusion.xl import StableDiffusionXL


def load(
    model: str | Path,
    revision: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    adaptation: Path | None = None,
    variant: str | None = None,
    config: Path | None = None,
) -> StableDiffusion:
    """Load Stable Diffusion 1.x, 2.x or XL in diffusers' format.

    Parameters
    ----------
    model
        A local folder, a hub id (then ``revision`` is a branch, tag or commit), or a file of weights.
    device
        cpu, cuda or auto (cuda where there is one).
    dtype
        What the U-Net computes in: float32, bfloat16 or float16.
    adaptation
        A file of weights that tune the model (``core.diffusion.adaptation``).
    variant
        Of the weights' files, as ``fp16``; None = plain ones, or in a folder without them the variant it has.
    config
        Of a file of weights: the folder with its configuration and tokenizers. Pickled files are read as tensors alone.

    Raises
    ------
    FileNotFoundError
        where the folder or one of its parts is missing.
    ValueError
        where it is another kind of pipeline, or cannot be read.
    """
    import diffusers
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    single = Path(model).is_file()
    if single:
        check_single_file(Path(model), config)
    elif Path(model).exists():
        variant = check_folder(Path(model), variant)
    device = pick(device)
    try:
        told = diffusers.DiffusionPipeline.load_config(str(config if single else model), revision=revision)
        family = family_of(str(told.get("_class_name")), str(model))
        kind = getattr(diffusers, f"{family.pipeline}Pipeline")
        if single:
            pipeline = kind.from_single_file(str(model), config=str(config), local_files_only=True, dtype=torch.float32)
        else:
            wanted = {"revision": revision, "variant": variant, "dtype": torch.float32, "use_safetensors": True}
            pipeline = kind.from_pretrained(str(model), **wanted, **UNUSED[family])
    except Exception as error:  # diffusers, transformers and the hub raise whatever they please
        raise ValueError(f"{model} cannot be loaded as a Stable Diffusion: {error}") from error
    if adaptation is not None:
        from safetensors.torch import load_file

        from partsynth.core.diffusion.adapted import apply

        apply(pipeline.vae, pipeline.unet, load_file(adaptation))
    wanted = getattr(torch, dtype)
    pipeline.unet.to(device, wanted)
    for part in family.weights:
        if part != "unet":
            getattr(pipeline, part).to(device)
    return BUILDERS[family](pipeline, wanted)


def _stable_diffusion(pipeline: Any, dtype: torch.dtype) -> StableDiffusion:
    prompts = PromptEncoder(pipeline.tokenizer, pipeline.text_encoder, pipeline.unet.device)
    return StableDiffusion(pipeline.vae, pipeline.unet, prompts, pipeline.scheduler, dtype)


def _stable_diffusion_xl(pipeline: Any, dtype: torch.dtype) -> StableDiffusion:
    device = pipeline.unet.device
    prompts = PromptPair(
        HiddenStates(pipeline.tokenizer, pipeline.text_encoder, device),
        HiddenStates(pipeline.tokenizer_2, pipeline.text_encoder_2, device),
        empty_is_zero=bool(pipeline.config.get("force_zeros_for_empty_prompt", True)),
    )
    return StableDiffusionXL(pipeline.vae, pipeline.unet, prompts, pipeline.scheduler, dtype)


# what a further family needs beside its ``Family`` in ``folder``: docs/base-models.md
BUILDERS = {STABLE_DIFFUSION: _stable_diffusion, STABLE_DIFFUSION_XL: _stable_diffusion_xl}
UNUSED: dict[Family, dict[str, Any]] = {
    STABLE_DIFFUSION: {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
    STABLE_DIFFUSION_XL: {"image_encoder": None, "feature_extractor": None, "add_watermarker": False},
}
