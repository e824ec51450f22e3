"""Low-rank adapters (LoRA, arXiv 2106.09685) of a U-Net, by peft: W + B A, B = 0 at the start, alpha = rank."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
EVERYWHERE = (*ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "conv_shortcut")


def add_adapter(unet: Any, rank: int, targets: tuple[str, ...], seed: int, name: str = "default") -> None:
    """Give every layer of ``targets`` an adapter that changes nothing yet; its weights alone require gradients.

    The random start of A is drawn on the CPU from ``seed``; adapters of other names are switched off.
    """
    from peft import LoraConfig

    unet.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets)), adapter_name=name)


def adapter_weights(unet: Any, name: str = "default") -> dict[str, Tensor]:
    """An adapter's A (rank, in) and B (out, rank) by layer, as ``load_lora_adapter`` of diffusers reads them."""
    from peft.utils import get_peft_model_state_dict

    found = get_peft_model_state_dict(unet, adapter_name=name)
    return {key: value.detach().cpu().contiguous() for key, value in sorted(found.items())}


def merge(unet: Any, weights: Mapping[str, Tensor]) -> None:
    """Add an adapter to the U-Net's own weights: it then costs nothing.

    Raises
    ------
    ValueError
        where it does not fit the U-Net.
    """
    load(unet, weights, "merged")
    unet.fuse_lora()
    unet.unload_lora()
    unet.requires_grad_(False)


def load(unet: Any, weights: Mapping[str, Tensor], name: str) -> None:
    """Give the U-Net an adapter under a name.

    Raises
    ------
    ValueError
        where it does not fit the U-Net.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several classes, one each
            unet.load_lora_adapter(dict(weights), prefix=None, adapter_name=name)
    except Exception as error:  # peft and torch raise whatever they please
        raise ValueError(f"the adapter does not fit the model's U-Net: {error}") from error


def switch(unet: Any, name: str | None) -> None:
    """Use the adapter of this name alone; None = no adapter."""
    if name is not None:
        unet.enable_lora()
        unet.set_adapter(name)
    elif getattr(unet, "peft_config", None):
        unet.disable_lora()


def has(unet: Any, name: str) -> bool:
    """Whether the U-Net has an adapter of this name."""
    return name in getattr(unet, "peft_config", {})
