"""What later stages need and do not ask for until hours of work are done: models, devices, MLflow's store, remotes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from partsynth.config.models import Diffusion
from partsynth.config.params import Params
from partsynth.core.diffusion.folder import check_folder, check_single_file, check_weights
from partsynth.errors import UserError
from partsynth.lineage.git import require_readable
from partsynth.lineage.remotes import remote_faults
from partsynth.project.findings import Findings
from partsynth.project.shipped import BASE
from partsynth.store.addresses import masked
from partsynth.tracking.store import require_usable, tracking_uri

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def check_models(root: Path, parameters: Params, found: Findings) -> None:
    """The base model and the reference encoder: all their files, weights whole."""
    looks: dict[str, tuple[str, Callable[[Path], object]]] = {
        "diffusion.model": (
            parameters.diffusion.model,
            partial(_check_base, diffusion=parameters.diffusion, root=root),
        ),
        "reference.model": (parameters.reference.model, check_encoder),
    }
    for key, (model, look) in looks.items():
        folder = root / model
        if folder.exists():
            try:
                look(folder)
                found.in_order.append(f"{key}: {model}")
            except (OSError, ValueError) as error:
                found.faults.append(f"{key}: {error}")
        elif HUB_ID.fullmatch(model) and not folder.parent.is_dir() and model != BASE:
            found.in_order.append(f"{key}: {model}, fetched from the model hub at the first run")
        elif (root / f"{BASE}.dvc").is_file() and (model == BASE or model.startswith(f"{BASE}/")):
            found.faults.append(f"{key}: {model} is not here: `dvc pull` or `dvc checkout` brings it")
        else:
            found.faults.append(f"{key}: there is no folder {model} (and it is no hub id owner/name)")


def _check_base(model: Path, diffusion: Diffusion, root: Path) -> None:
    """Raises FileNotFoundError or ValueError where the base model, a folder or a file of weights, cannot be loaded."""
    if model.is_file():
        check_single_file(model, None if diffusion.config is None else root / diffusion.config)
    else:
        check_folder(model, diffusion.variant)


def check_encoder(folder: Path) -> None:
    """
    Raises
    ------
    FileNotFoundError, ValueError
        where a folder holds no encoder that measures drift, or its weights are missing or cut off.
    """
    described = folder / "config.json"
    if not described.is_file():
        raise FileNotFoundError(f"{folder} holds no config.json")
    try:
        kind = str(json.loads(described.read_text()).get("model_type"))
    except (ValueError, AttributeError):
        raise ValueError(f"{described} is no mapping in JSON") from None
    if kind != "partsynth-reference-encoder" and kind not in ("clip", "clip_vision_model") and kind[:6] != "dinov2":
        raise ValueError(f"{folder}: model_type {kind!r}; allowed: the embedded encoder, dinov2, clip")
    weights = sorted(folder.glob("model*.safetensors"))
    if not (folder / "model.safetensors").is_file() and not (folder / "model.safetensors.index.json").is_file():
        raise FileNotFoundError(f"{folder} has no model.safetensors (pickled weights and variants are not read)")
    for path in weights:
        check_weights(path)


def check_devices(parameters: Params, found: Findings) -> None:
    """GPUs that are asked for by name; ``auto`` takes what is there."""
    sections = {
        "diffusion": parameters.diffusion.device,
        "reference": parameters.reference.device,
        "train": parameters.train.device,
        "evaluate": parameters.evaluate.device,
    }
    if not (wanted := [f"{section}.device" for section, device in sections.items() if device == "cuda"]):
        return
    from partsynth.core.devices import pick

    try:
        pick("cuda")
        found.in_order.append(f"{', '.join(wanted)}: cuda")
    except ValueError as error:
        found.faults.append(f"{', '.join(wanted)}: {error}")


def check_store(root: Path, found: Findings) -> None:
    """MLflow's store, which the first training writes to."""
    try:
        require_usable(root)
        found.in_order.append(f"MLflow: {masked(tracking_uri(root))}")
    except UserError as error:
        found.faults.append(str(error))


def check_versions(root: Path, found: Findings) -> None:
    """git's readiness to answer, and DVC's remotes."""
    try:
        require_readable(root)
    except UserError as error:
        found.faults.append(str(error))
    found.faults += remote_faults(root)
