"""The embedded reference encoder, which measures drift: trained on renders of worn parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from partsynth.core.backbones.base import Extractor, Weights
from partsynth.core.backbones.pretrained import HALF, Features, pooled, sha256
from partsynth.core.drift.reference import EMBEDDED, ReferenceNet

FOLDER = "models/base/reference_encoder"


def _pooled(net: nn.Module, images: Tensor) -> Tensor:
    return pooled(net(images))


class _Member:
    name = "reference"
    keys = ("model", "pretrained")

    def build(self, parameters: Mapping[str, Any]) -> Extractor:
        folder = Path(parameters["model"] or FOLDER)
        config = parameters.get("resolved") or _config(folder)
        net = ReferenceNet(config["widths"], config["dimensions"])
        body = nn.Sequential(net.stem, net.blocks)  # its head serves distances; the probe learns its own
        resolved = {"widths": config["widths"], "dimensions": config["dimensions"]}
        return Extractor(
            Features(body, _pooled),
            2 * config["widths"][-1],
            HALF,
            HALF,
            fetch=(lambda: _weights(folder)) if parameters["pretrained"] else None,
            resolved=resolved,
        )

    def initialise(self, extractor: Extractor) -> None:
        if extractor.fetch is None:
            return
        places = {"stem.": "0.", "blocks.": "1."}
        state = {}
        for key, value in load_file(extractor.fetch().path).items():
            head = key[: key.index(".") + 1]
            if head in places:
                state[places[head] + key.removeprefix(head)] = value.float()
        extractor.module.net.load_state_dict(state)  # type: ignore[union-attr]


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"model is {folder}, which has no config.json of the embedded reference encoder")
    config = json.loads(path.read_text())
    if config.get("model_type") != EMBEDDED:
        raise ValueError(f"{path}: model_type is {config.get('model_type')!r}, allowed is {EMBEDDED}")
    return config


def _weights(folder: Path) -> Weights:
    path = folder / "model.safetensors"
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    return Weights(path, folder.as_posix(), sha256(path), "Apache-2.0")


MEMBER = _Member()
