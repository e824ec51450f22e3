"""Any network of timm by name, by hub id, or as a local folder or file of weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from partsynth.core.backbones.base import Extractor, Weights
from partsynth.core.backbones.pretrained import (
    EXTRA,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Features,
    existing,
    feature_dim,
    pooled,
    sha256,
    without_batch_statistics,
)

FILES = ("model.safetensors", "pytorch_model.bin")


def _pooled(net: Any, images: Tensor) -> Tensor:
    features = net.forward_features(images)
    if features.ndim == 4 and features.shape[1] != net.num_features and features.shape[3] == net.num_features:
        features = features.permute(0, 3, 1, 2)  # some keep channels last
    return pooled(features, getattr(net, "num_prefix_tokens", 0))


class _Member:
    name = "timm"
    keys = ("model", "pretrained", "weights", "size")

    def build(self, parameters: Mapping[str, Any]) -> Extractor:
        if find_spec("timm") is None:
            raise ValueError(f"needs timm: {EXTRA}")
        model, pretrained = parameters["model"], parameters["pretrained"]
        if not model:
            raise ValueError("needs train.model: a name (timm.list_models()), a hub id, or a folder")
        found = parameters.get("resolved") or _resolve(model)
        net, fixed = _create(found, parameters["size"])
        if not pretrained:
            without_batch_statistics(net)
        module = Features(net, _pooled)
        fetch = (lambda: _weights(model, parameters["weights"], net.pretrained_cfg)) if pretrained else None
        dim = feature_dim(module, parameters["size"])
        size = parameters["size"] if fixed else None
        resolved = {**found, "size": parameters["size"]}
        return Extractor(module, dim, tuple(found["mean"]), tuple(found["std"]), size, fetch, resolved)

    def initialise(self, extractor: Extractor) -> None:
        if extractor.fetch is None:
            return  # as timm draws them
        weights, found = extractor.fetch(), extractor.resolved
        net: Any = extractor.module.net
        drawn, _ = _create(found, found["size"], seed=0)
        try:
            loaded, _ = _create(found, found["size"], seed=0, file=weights.path)
        except RuntimeError as error:
            raise ValueError(f"{weights.source} does not fit {found['name']}: {str(error).splitlines()[-1]}") from None
        before = drawn.state_dict()
        for name, value in loaded.named_parameters():  # timm passes over what a file lacks
            if value.ndim > 1 and value.std() > 0 and torch.equal(value, before[name]):
                raise ValueError(f"{weights.source} has no {name}: the weights of another model?")
        net.load_state_dict(loaded.state_dict())


def _resolve(model: str) -> dict[str, Any]:
    """Name, arguments and normalisation of an architecture, from a folder, a hub or timm's own list."""
    import timm

    folder = Path(model)
    arguments: dict[str, Any] = {}
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ValueError(f"model is {model}, which has no config.json as timm writes it")
        config = json.loads((folder / "config.json").read_text())
        name, arguments = config.get("architecture"), config.get("model_args", {})
        stored = config.get("pretrained_cfg", config)
    elif "/" in model:
        from timm.models import load_model_config_from_hf

        try:
            stored, name, arguments = load_model_config_from_hf(model.removeprefix("hf-hub:"))
        except Exception as error:
            raise ValueError(_unreachable(model, error)) from None
    else:
        name, stored = model, None
    if name is None or not timm.is_model(name.partition(".")[0]):
        raise ValueError(f"model is {model!r}, which timm does not know (timm.list_models() has the names)")
    if stored is None:
        registered = timm.get_pretrained_cfg(name, allow_unregistered=True)
        stored = registered.to_dict() if registered else {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    arguments = {key: value for key, value in arguments.items() if key not in ("img_size", "num_classes")}
    return {"name": name, "arguments": arguments, "mean": list(stored["mean"]), "std": list(stored["std"])}


def _create(found: Mapping[str, Any], size: int, seed: int | None = None, file: Path | None = None) -> tuple[Any, bool]:
    """The network without its head, and whether it takes images of ``size`` pixels a side alone."""
    import timm

    arguments = {**found["arguments"], "num_classes": 0}
    if file is not None:
        arguments |= {"pretrained": True, "pretrained_cfg_overlay": {"file": str(file), "hf_hub_id": None}}

    def create(**more: Any) -> Any:
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            return timm.create_model(found["name"], **arguments, **more)

    try:
        return create(img_size=size), True
    except TypeError:  # convolutions take any size
        return create(), False


def _weights(model: str, file: str | None, config: Mapping[str, Any]) -> Weights:
    licence = config.get("license") or "unknown"
    if file:
        return Weights(existing(file), file, sha256(Path(file)), "unknown: that of the file")
    if Path(model).is_dir():
        path = next((Path(model) / name for name in FILES if (Path(model) / name).is_file()), None)
        if path is None:
            raise ValueError(f"{model} has none of {', '.join(FILES)}")
        return Weights(path, model, sha256(path), "unknown: that of the folder")
    from huggingface_hub import hf_hub_download

    hub = model.removeprefix("hf-hub:") if "/" in model else config.get("hf_hub_id")
    if not hub:
        raise ValueError(f"timm has no weights of {model}: set train.pretrained: false, or name a file by weights")
    try:
        path = Path(hf_hub_download(hub, FILES[0]))
    except Exception as error:
        raise ValueError(_unreachable(hub, error)) from None
    return Weights(path, f"hub {hub}", sha256(path), licence)


def _unreachable(model: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"{model} cannot be had from the hub ({reason}): name a local folder by train.model, or fetch it once online"


MEMBER = _Member()
