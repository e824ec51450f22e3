"""Any classification network of torchvision by name; resnet50 (the original study's) where none is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from partsynth.core.backbones.base import Extractor, Weights
from partsynth.core.backbones.pretrained import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Features,
    existing,
    feature_dim,
    sha256,
    without_batch_statistics,
)

NAME = "resnet50"
HEADS = ("fc", "classifier", "heads", "head")  # what the libraries' networks call their last layers
LICENCE = "BSD-3-Clause (torchvision); ImageNet's terms hold for weights trained on it"


def _flat(net: nn.Module, images: Tensor) -> Tensor:
    return net(images).flatten(1)


class _Member:
    name = "torchvision"
    keys = ("model", "pretrained", "weights", "stem3x3", "size")

    def build(self, parameters: Mapping[str, Any]) -> Extractor:
        from torchvision import models

        name, pretrained = parameters["model"] or NAME, parameters["pretrained"]
        if name not in (known := models.list_models(module=models)):
            raise ValueError(f"model is {name!r}, which torchvision has not; it has {', '.join(known)}")
        net: Any = models.get_model(name, weights=None)
        head = next((head for head in HEADS if hasattr(net, head)), None)
        if head is None:
            raise ValueError(f"model is {name!r}, whose last layer is none of {', '.join(HEADS)}")
        setattr(net, head, nn.Identity())
        if parameters["stem3x3"]:
            if not isinstance(net, models.ResNet):
                raise ValueError("stem3x3 is for ResNets alone")
            if pretrained:
                raise ValueError("stem3x3 has no pretrained weights: set pretrained: false")
            net.conv1 = nn.Conv2d(3, net.conv1.out_channels, 3, 1, 1, bias=False)
            net.maxpool = nn.Identity()
        if not pretrained:
            without_batch_statistics(net)
        size = net.image_size if isinstance(net, models.VisionTransformer) else None
        module = Features(net, _flat)
        fetch = (lambda: _weights(name, parameters["weights"])) if pretrained else None
        dim = feature_dim(module, size or parameters["size"])
        return Extractor(module, dim, IMAGENET_MEAN, IMAGENET_STD, size, fetch)

    def initialise(self, extractor: Extractor) -> None:
        if extractor.fetch is None:
            for module in extractor.module.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            return
        found = extractor.fetch()
        net: Any = extractor.module.net
        missing, _ = net.load_state_dict(_read(found.path), strict=False)  # without the head
        if missing:
            raise ValueError(f"{found.source} has no {missing[0]}: the weights of another model?")


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.hub.load_state_dict_from_url(
        path.resolve().as_uri(), model_dir=str(path.parent), file_name=path.name, map_location="cpu", weights_only=True
    )


def _weights(name: str, file: str | None) -> Weights:
    """Of the file, or of the best ones that torchvision has, fetched once into torch's folder of weights."""
    if file:
        return Weights(existing(file), file, sha256(Path(file)), "unknown: that of the file")
    from torchvision import models

    url = models.get_model_weights(name)["DEFAULT"].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except OSError as error:
            raise ValueError(
                f"the weights of {name} cannot be fetched from {url} ({error}): name a file by train.weights, or set "
                "train.pretrained: false"
            ) from None
    return Weights(path, url, sha256(path), LICENCE)


MEMBER = _Member()
