"""What a backbone is: the part of an encoder that turns images into features.

A member of the seam ``partsynth.seams.BACKBONES`` is an object of the protocol ``Backbone``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Weights:
    """The stored weights that a pretrained backbone starts from."""

    source: str  # where they are fetched: a URL, or a hub id with its revision
    sha256: str  # of the file
    licence: str  # SPDX identifier


@dataclass(frozen=True)
class Extractor:
    """A backbone as built, and how it wants its images."""

    module: nn.Module  # normalised float images (B, 3, H, W), channels last in memory -> features (B, feature_dim)
    feature_dim: int
    mean: RGB  # subtracted from images in [0, 1] ...
    std: RGB  # ... which are then divided by it
    input_size: int | None = None  # pixels a side that it must be given; None = any
    weights: Weights | None = None  # what ``initialise`` loads; None = fresh weights are drawn


class Backbone(Protocol):
    """A member of the seam.

    Its module must treat each image by itself and repeatably (no batch statistics, no dropout): the loss in
    micro-batches is exact only then, and real and synthetic batches cannot be told apart by their statistics. Its
    features are float32, also under autocast. Parameters that shall stay as they are have ``requires_grad = False``.
    """

    name: str
    keys: tuple[str, ...]  # keys of params.yaml's section train that shape it

    def build(self, parameters: Mapping[str, Any]) -> Extractor:
        """The architecture, from the values of ``keys``; nothing is fetched: stored weights may follow.

        Raises
        ------
        ValueError
            where the parameters make no architecture.
        """
        ...

    def initialise(self, extractor: Extractor) -> None:
        """Give a built backbone the weights that training starts from, stored or drawn from torch's generator."""
        ...
