"""Stable Diffusion 1.x/2.x loaded from a folder in diffusers' format, or from the hub."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from partsynth.core.devices import pick
from partsynth.core.diffusion.model import PARTS, StableDiffusion


def load(
    model: str | Path, revision: str | None = None, device: str = "cpu", dtype: str = "float32"
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
    if Path(model).exists():
        _check_folder(Path(model))
    device = pick(device)
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            str(model),
            revision=revision,
            dtype=torch.float32,
            use_safetensors=True,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    except Exception as error:  # diffusers, transformers and the hub raise whatever they please
        raise ValueError(f"{model} cannot be loaded as a Stable Diffusion 1.x/2.x: {error}") from error
    wanted = getattr(torch, dtype)
    pipeline.unet.to(device, wanted)
    pipeline.vae.to(device)
    pipeline.text_encoder.to(device)
    vae, unet, text_encoder, tokenizer, scheduler = (getattr(pipeline, part) for part in PARTS)
    return StableDiffusion(vae, unet, text_encoder, tokenizer, scheduler, wanted)


def _check_folder(folder: Path) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(f"{folder} has no model_index.json, so it is no pipeline in diffusers' format")
    loaded = json.loads(index.read_text())
    kind = str(loaded.get("_class_name"))
    unknown = not kind.startswith("StableDiffusion") or "XL" in kind or "3" in kind
    if unknown:
        raise ValueError(f"{index} names a {kind}; allowed: StableDiffusionPipeline (1.x, 2.x) and its Img2Img form")
    missing = [part for part in PARTS if part not in loaded or not (folder / part).is_dir()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}")
    for part in ("vae", "unet", "text_encoder"):
        name = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        if not list((folder / part).glob(f"{name}*.safetensors")):
            raise FileNotFoundError(f"{folder / part} has no {name}.safetensors (pickled weights are not read)")
