"""The weights that tune a base model, given to it when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from partsynth.core.diffusion.lora import merge

VAE, UNET = "vae.", "unet."  # what the names of an adaptation's tensors begin with


def apply(vae: Any, unet: Any, weights: Mapping[str, Tensor]) -> None:
    """Give a VAE and a U-Net the weights of an adaptation of their model.

    Raises
    ------
    ValueError
        where they do not fit.
    """
    own = {name.removeprefix(VAE): value.float() for name, value in weights.items() if name.startswith(VAE)}
    if own:
        try:
            vae.load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(f"the adaptation does not fit the model's VAE: {error}") from error
    adapter = {name.removeprefix(UNET): value for name, value in weights.items() if name.startswith(UNET)}
    if adapter:
        merge(unet, adapter)
