"""A backbone's layers from input to output, whichever library it is from: which are trained, and how fast."""

from __future__ import annotations

import re

from torch import nn

NUMBERED = re.compile(r"(\w+_)?\d+")  # "0", "encoder_layer_0"


def layers(module: nn.Module) -> list[list[str]]:
    """Names of the parameters, layer by layer in the order they were made, which is from input to output.

    A layer is what carries the first number in its name ("layer1.0", "encoder.layer.3"), else a module of its own; a
    normalisation by itself belongs to what it follows.
    """
    found: dict[str, list[str]] = {}
    matrices = set()
    for name, parameter in module.named_parameters():
        parts = name.split(".")[:-1]
        first = next((i for i, part in enumerate(parts) if NUMBERED.fullmatch(part)), len(parts))
        layer = ".".join(parts[: first + 1])
        found.setdefault(layer, []).append(name)
        if parameter.ndim > 1:
            matrices.add(layer)
    merged: list[list[str]] = []
    for layer, names in found.items():
        if merged and layer not in matrices:
            merged[-1] += names
        else:
            merged.append(names)
    return merged


def set_trainable(module: nn.Module, trainable: str | int) -> None:
    """Freeze all layers but the last ``trainable``; "all" leaves every parameter as it is, "none" freezes all.

    Raises
    ------
    ValueError
        where there are not so many layers.
    """
    if trainable == "all":
        return
    groups = layers(module)
    count = 0 if trainable == "none" else int(trainable)
    if count > len(groups):
        raise ValueError(f"trainable is {count}, but it has {len(groups)} layers: at most that, or all")
    parameters = dict(module.named_parameters())
    for names in groups[: len(groups) - count]:
        for name in names:
            parameters[name].requires_grad_(False)


def learning_rates(module: nn.Module, decay: float) -> dict[str, float]:
    """Factor of each parameter's learning rate: 1 in the last layer, times ``decay`` with each layer towards the
    input (Clark et al. 2020, arXiv 2003.10555; Bao et al. 2021, arXiv 2106.08254)."""
    groups = layers(module)
    return {name: decay ** (len(groups) - 1 - depth) for depth, names in enumerate(groups) for name in names}
