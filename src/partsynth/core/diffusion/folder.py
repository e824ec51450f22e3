"""A model's folder in diffusers' format, looked at without loading it."""

from __future__ import annotations

import json
from pathlib import Path

PARTS = ("vae", "unet", "text_encoder", "tokenizer", "scheduler")
WEIGHTS = {"vae": "diffusion_pytorch_model", "unet": "diffusion_pytorch_model", "text_encoder": "model"}


def check_folder(folder: Path) -> str | None:
    """Whether a folder can be loaded, weights included; the variant ("fp16") that must be asked for, None = none.

    Raises
    ------
    FileNotFoundError
        where the folder, one of its parts or its weights are missing.
    ValueError
        where it is another kind of pipeline, or a file of weights is cut off.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(f"{folder} has no model_index.json, so it is no pipeline in diffusers' format")
    loaded = _mapping(index)
    kind = str(loaded.get("_class_name"))
    if not kind.startswith("StableDiffusion") or "XL" in kind or "3" in kind:
        raise ValueError(f"{index} names a {kind}; allowed: StableDiffusionPipeline (1.x, 2.x) and its Img2Img form")
    missing = [part for part in PARTS if part not in loaded or not (folder / part).is_dir()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}")
    found: dict[str, set[str]] = {}
    for part, name in WEIGHTS.items():
        files = sorted((folder / part).glob(f"{name}*.safetensors"))
        if not files:
            raise FileNotFoundError(f"{folder / part} has no {name}.safetensors (pickled weights are not read)")
        for path in files:
            check_weights(path)
        found[part] = {_variant(path.name, name) for path in files}
    if all("" in variants for variants in found.values()):
        return None
    common = sorted(set.intersection(*found.values()) - {""})
    if not common:
        told = ", ".join(f"{part}: {', '.join(v or 'plain' for v in sorted(vs))}" for part, vs in found.items())
        raise FileNotFoundError(f"{folder} has no variant of weights that all its parts have ({told})")
    return common[0]


def check_weights(path: Path) -> None:
    """
    Raises
    ------
    ValueError
        where a safetensors file is not whole: its header says where its last tensor ends.
    """
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            tensors = json.loads(file.read(length)) if 0 < length <= size - 8 else {}
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        ends = []
    if not ends or size < 8 + length + max(ends):
        raise ValueError(f"{path} is no whole safetensors file (cut off, or a pointer of Git LFS): fetch it again")


def _variant(file: str, name: str) -> str:
    """``model.fp16.safetensors`` -> fp16, ``model.fp16-00001-of-00002.safetensors`` -> fp16, plain -> ""."""
    middle = file.removeprefix(name).removesuffix(".safetensors")
    return middle.removeprefix(".").partition("-")[0]


def _mapping(path: Path) -> dict[str, object]:
    try:
        loaded = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} holds no mapping")
    return loaded
