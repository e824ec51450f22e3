"""What a backbone is: the part of an encoder that turns images into features.

A member of the seam ``partsynth.seams.BACKBONES`` is an object of the protocol ``Backbone``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import nn

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Weights:
    """The stored weights that a pretrained backbone starts from."""

    path: Path  # of the file on this machine
    source: str  # where they come from: a URL, a hub id, a package with its version, or a path
    sha256: str  # of the file
    licence: str  # SPDX identifier, or what is known of it

    @property
    def facts(self) -> dict[str, str]:
        """What is told of them; where they lie on this machine is not."""
        return {"source": self.source, "sha256": self.sha256, "licence": self.licence}


@dataclass(frozen=True)
class Extractor:
    """A backbone as built, and how it wants its images."""

    module: nn.Module  # normalised float images (B, 3, H, W), channels last in memory -> features (B, feature_dim)
    feature_dim: int
    mean: RGB  # subtracted from images in [0, 1] ...
    std: RGB  # ... which are then divided by it
    input_size: int | None = None  # pixels a side that it must be given; None = any
    fetch: Callable[[], Weights] | None = None  # gets what ``initialise`` loads; None = fresh weights are drawn
    resolved: Mapping[str, Any] = field(default_factory=dict)  # what ``build`` read from elsewhere (JSON), see there


class Backbone(Protocol):
    """A member of the seam.

    Its module must treat each image by itself and repeatably (no batch statistics, no dropout): the loss in
    micro-batches is exact only then, and real and synthetic batches cannot be told apart by their statistics. Its
    features are float32, also under autocast. Parameters that shall stay as they are have ``requires_grad = False``.
    """

    name: str
    keys: tuple[str, ...]  # keys of params.yaml's section train that shape it

    def build(self, parameters: Mapping[str, Any]) -> Extractor:
        """The architecture, from the values of ``keys``; stored weights may follow.

        A trained model is built from its config.json alone: what an earlier ``build`` read from a folder or a hub and
        told as ``resolved`` comes back as ``parameters["resolved"]``.

        Raises
        ------
        ValueError
            where the parameters make no architecture, or a package or file lacks: a sentence for the user.
        """
        ...

    def initialise(self, extractor: Extractor) -> None:
        """Give a built backbone the weights that training starts from, stored or drawn from torch's generator.

        Raises
        ------
        ValueError
            where stored weights cannot be had, or do not fit: a sentence for the user.
        """
        ...
