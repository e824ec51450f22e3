"""DINOv2 or another vision encoder of transformers, by hub id or folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from partsynth.core.backbones.base import Extractor, Weights
from partsynth.core.backbones.pretrained import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Features,
    feature_dim,
    pooled,
    sha256,
    without_batch_statistics,
)

FILE = "model.safetensors"
CLASS_TOKEN = ("dinov2", "dinov2_with_registers", "dinov3_vit", "vit", "beit", "clip_vision_model")
# they resample positions, or have none
ANY_SIZE = ("dinov2", "dinov2_with_registers", "dinov3_vit", "convnext", "convnextv2", "resnet", "regnet")
WHOLE_CLIP = ("clip",)


def _pooled(net: Any, images: Tensor, prefix: int) -> Tensor:
    return pooled(net(pixel_values=images).last_hidden_state, prefix)


class _Member:
    name = "transformers"
    keys = ("model", "pretrained", "size")

    def build(self, parameters: Mapping[str, Any]) -> Extractor:
        model, pretrained = parameters["model"], parameters["pretrained"]
        if not model:
            raise ValueError("needs train.model: a hub id such as facebook/dinov2-small, or a folder")
        found = parameters.get("resolved") or _resolve(model)
        net, config = _create(found["config"])
        kind = config.model_type
        prefix = 1 + getattr(config, "num_register_tokens", 0) if kind in CLASS_TOKEN else 0
        if not pretrained:
            without_batch_statistics(net)
        module = Features(net, partial(_pooled, prefix=prefix))
        size = None if kind in ANY_SIZE else _one(getattr(config, "image_size", None))
        fetch = (lambda: _weights(model)) if pretrained else None
        dim = feature_dim(module, size or parameters["size"])
        resolved = {**found, "folder": model} if pretrained else found
        return Extractor(module, dim, tuple(found["mean"]), tuple(found["std"]), size, fetch, resolved)

    def initialise(self, extractor: Extractor) -> None:
        if extractor.fetch is None:
            return  # as transformers draws them
        found = extractor.resolved
        net: Any = extractor.module.net
        loaded, told = _quietly(lambda: type(net).from_pretrained(found["folder"], output_loading_info=True))
        if missing := [name for name in told["missing_keys"] if "pooler" not in name]:
            raise ValueError(f"{found['folder']} has no {sorted(missing)[0]}: the weights of another model?")
        net.load_state_dict(loaded.float().state_dict())


def _resolve(model: str) -> dict[str, Any]:
    """The configuration and normalisation, from a folder or a hub."""
    from transformers import AutoConfig, AutoImageProcessor

    try:
        config = AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise ValueError(_unreachable(model, error)) from None
    try:
        processor = AutoImageProcessor.from_pretrained(model, use_fast=True)
        mean, std = list(processor.image_mean), list(processor.image_std)
    except (OSError, ValueError, ImportError):  # weights without a preprocessor's file
        mean, std = list(IMAGENET_MEAN), list(IMAGENET_STD)
    return {"config": json.loads(config.to_json_string(use_diff=False)), "mean": mean, "std": std}


def _create(stored: Mapping[str, Any]) -> tuple[Any, Any]:
    """The encoder of images with weights drawn, and its configuration."""
    from transformers import AutoConfig, AutoModel, CLIPVisionModel

    content = dict(stored)
    config = AutoConfig.for_model(content.pop("model_type"), **content)
    if config.model_type in WHOLE_CLIP:
        config = config.vision_config
    if config.model_type == "clip_vision_model":
        vision: Any = config
        return CLIPVisionModel(vision), config
    return AutoModel.from_config(config), config


def _weights(model: str) -> Weights:
    if Path(model).is_dir():
        path = Path(model, FILE)
        if not path.is_file():
            raise ValueError(f"{path} is missing: weights are read from safetensors alone")
        return Weights(path, model, sha256(path), "unknown: that of the folder")
    from huggingface_hub import hf_hub_download

    try:
        path = Path(hf_hub_download(model, FILE))
    except Exception as error:
        raise ValueError(_unreachable(model, error)) from None
    return Weights(path, f"hub {model} {path.parent.name}", sha256(path), "that of the hub's model card")


def _quietly(load: Callable[[], Any]) -> Any:
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        return load()
    finally:
        logging.set_verbosity(before)


def _one(size: Any) -> int | None:
    return size if isinstance(size, int) or size is None else int(size[0])


def _unreachable(model: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"{model} is no folder, and the hub gives none ({reason}): name a local folder, or fetch it once online"


MEMBER = _Member()
