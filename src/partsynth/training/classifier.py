"""A trained classifier and its files: encoder.safetensors, classifier.safetensors (the linear probe), config.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from partsynth.config.training import Train
from partsynth.core.backbones.base import Backbone, Weights
from partsynth.core.contrastive import encoder as encoders
from partsynth.core.contrastive.encoder import Classifier, Encoder
from partsynth.errors import UserError
from partsynth.seams import BACKBONES
from partsynth.store import seal
from partsynth.store.files import write_bytes_atomic, write_json
from partsynth.store.hashing import sha256_bytes
from partsynth.store.reading import lacking, read_object, read_tensors

ENCODER, PROBE, CONFIG = "encoder.safetensors", "classifier.safetensors", "config.json"
FIRST_BACKBONE = "narrow_resnet"  # of models that were stored before there was a choice; they do not name it


def build_encoder(params: Train, seed: int) -> Encoder:
    """The encoder that training starts from, its weights drawn from ``seed`` or, of a pretrained backbone, loaded.

    Raises
    ------
    UserError
        where section train does not fit the backbone.
    """
    parameters = {**architecture(params), "trainable": params.trainable}
    try:
        encoder = encoders.build(BACKBONES[params.backbone], parameters, params.embedding, seed)
    except ValueError as error:
        raise UserError(f"train.backbone {params.backbone}: {error}") from None
    if encoder.input_size not in (None, params.size):
        raise UserError(f"train.size is {params.size}; the backbone {params.backbone} takes {encoder.input_size} alone")
    return encoder


def architecture(params: Train, encoder: Encoder | None = None) -> dict[str, Any]:
    """What an encoder is built from again, as config.json has it; with what ``encoder`` read from elsewhere."""
    backbone: Backbone = BACKBONES[params.backbone]
    name = {} if params.backbone == FIRST_BACKBONE else {"backbone": params.backbone}
    found = {**name, **{key: getattr(params, key) for key in backbone.keys}, "embedding": params.embedding}
    return {**found, "resolved": dict(encoder.resolved)} if encoder and encoder.resolved else found


def stored_weights(params: Train) -> Weights | None:
    """The weights that training starts from, fetched where they are not here yet; None where they are drawn.

    Raises
    ------
    UserError
        where they, or the package that reads them, are not to be had.
    """
    if params.backbone == FIRST_BACKBONE:
        return None
    try:
        with torch.random.fork_rng(devices=[]):
            fetch = BACKBONES[params.backbone].build(architecture(params)).fetch
        return fetch() if fetch else None
    except ValueError as error:
        raise UserError(f"train.backbone {params.backbone}: {error}") from None


def save(
    model: Classifier, config: dict[str, Any], fingerprint: str, folder: Path, beside: Mapping[str, bytes] | None = None
) -> None:
    """Write the three files and those ``beside`` them; the weights carry the fingerprint inside.

    config.json, the last, is sealed with the hashes of the others (``store.seal``).
    """
    from safetensors.torch import save as serialise

    def serialised(module: nn.Module) -> bytes:
        return serialise(encoders.tensors(module), {"fingerprint": fingerprint})

    files = {ENCODER: serialised(model.encoder), PROBE: serialised(model.classifier), **(beside or {})}
    for name, data in files.items():
        write_bytes_atomic(folder / name, data)
    views = {} if model.test_views == "none" else {"test_views": model.test_views}
    digests = {name: sha256_bytes(data) for name, data in files.items()}
    whole = {**config, **views, "size": model.size, "fingerprint": fingerprint}
    write_json(folder / CONFIG, seal.sealed(whole, digests))


def refuse_changed(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a model of which a file is not as its training wrote it. Raises UserError, naming the file."""
    seal.refuse_changed(folder / CONFIG, config, "its training")


def load(folder: Path, device: str = "cpu") -> tuple[Classifier, dict[str, Any]]:
    """The classifier that the train stage wrote into ``folder``, in eval mode, and its config.json.

    ``config["classes"]`` are the class names in the order of the logits.

    Raises
    ------
    UserError
        where a file lacks or is damaged, no backbone has the name that the model was trained with, or a package that it
        needs lacks.
    """
    config = read_object(folder / CONFIG)
    lacking(folder / CONFIG, config, {"architecture": dict, "classes": list, "size": int, "fingerprint": str})
    refuse_changed(folder, config)
    shape = config["architecture"]
    backbone = BACKBONES[shape.get("backbone", FIRST_BACKBONE)]
    try:
        encoder = encoders.build(backbone, shape, shape["embedding"], seed=None)
        model = Classifier(encoder, len(config["classes"]), config["size"], config.get("test_views", "none"))
    except ValueError as error:
        raise UserError(f"{folder / CONFIG}: backbone {shape.get('backbone')}: {error}") from None
    except (TypeError, RuntimeError, OverflowError, AttributeError) as error:
        raise UserError(f"{folder / CONFIG} describes no model ({error}): dvc checkout, or dvc repro") from None
    _fill(model.encoder, folder / ENCODER)
    _fill(model.classifier, folder / PROBE)
    return model.to(device).eval(), config


def _fill(module: nn.Module, path: Path) -> None:
    """Weights from their file."""
    weights = read_tensors(path, finite=False)  # a training that diverged is named by who uses it
    kinds = {name: tensor.dtype for name, tensor in module.state_dict().items()}
    if other := sorted(name for name, tensor in weights.items() if tensor.dtype != kinds.get(name, tensor.dtype)):
        told = f"{other[0]} holds {str(weights[other[0]].dtype).removeprefix('torch.')}"
        raise UserError(f"{path} does not fit {CONFIG} beside it ({told}): dvc checkout, or dvc repro")
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        told = " ".join(str(error).split())[:200]
        raise UserError(f"{path} does not fit {CONFIG} beside it ({told}): dvc checkout, or dvc repro") from None
