"""A model's folder in diffusers' format, looked at without loading it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SINGLE_FILES = (".safetensors", ".ckpt")


@dataclass(frozen=True, eq=False)
class Family:
    """A family of base models: what its folders hold. ``loading.BUILDERS`` says how its parts become a model."""

    pipeline: str
    """Name of its pipeline's class in diffusers; longer names (Img2Img) count too."""
    weights: Mapping[str, str]
    """The parts with weights, and what their files' names begin with."""
    others: tuple[str, ...]
    """Parts without weights."""

    @property
    def parts(self) -> tuple[str, ...]:
        return (*self.weights, *self.others)


NETWORKS = {"vae": "diffusion_pytorch_model", "unet": "diffusion_pytorch_model", "text_encoder": "model"}
STABLE_DIFFUSION = Family("StableDiffusion", NETWORKS, ("tokenizer", "scheduler"))
STABLE_DIFFUSION_XL = Family(
    "StableDiffusionXL", NETWORKS | {"text_encoder_2": "model"}, ("tokenizer", "tokenizer_2", "scheduler")
)


def family_of(kind: str, where: str) -> Family:
    """The family of a pipeline's class.

    Raises
    ------
    ValueError
        where it is none of those that are known; ``where`` is what names it.
    """
    if kind.startswith(STABLE_DIFFUSION_XL.pipeline):
        return STABLE_DIFFUSION_XL
    if kind.startswith(STABLE_DIFFUSION.pipeline) and "3" not in kind:
        return STABLE_DIFFUSION
    raise ValueError(
        f"{where} names a {kind}; allowed: StableDiffusionPipeline (1.x, 2.x), StableDiffusionXLPipeline, and their "
        "Img2Img forms"
    )


def check_folder(folder: Path, variant: str | None = None) -> str | None:
    """Whether a folder can be loaded, weights included; the variant ("fp16") that must be asked for, None = none.

    Parameters
    ----------
    variant : the one that is wanted; None = plain weights where there are some, else the variant that all parts have

    Raises
    ------
    FileNotFoundError
        where the folder, one of its parts or its weights are missing.
    ValueError
        where it is another kind of pipeline, or a file of weights is cut off.
    """
    if folder.is_file():
        raise ValueError(single_file(folder))
    index = folder / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(f"{folder} has no model_index.json, so it is no pipeline in diffusers' format")
    loaded = _mapping(index)
    family = family_of(str(loaded.get("_class_name")), str(index))
    missing = [part for part in family.parts if part not in loaded or not (folder / part).is_dir()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}")
    found: dict[str, set[str]] = {}
    for part, name in family.weights.items():
        files = sorted((folder / part).glob(f"{name}*.safetensors"))
        if not files:
            raise FileNotFoundError(f"{folder / part} has no {name}.safetensors (pickled weights are not read)")
        for path in files:
            check_weights(path)
        found[part] = {_variant(path.name, name) for path in files}
    if variant is None and all("" in variants for variants in found.values()):
        return None
    common = sorted(set.intersection(*found.values()) - {""})
    if variant in common:
        return variant
    if not common or variant is not None:
        told = ", ".join(f"{part}: {', '.join(v or 'plain' for v in sorted(vs))}" for part, vs in found.items())
        wanted = f"variant {variant!r}" if variant is not None else "variant"
        raise FileNotFoundError(f"{folder} has no {wanted} of weights that all its parts have ({told})")
    return common[0]


def single_file(path: Path) -> str:
    """Why weights in one file cannot be loaded by themselves: diffusers would take what is missing from the hub, and a
    run must not depend on what it finds there."""
    if path.suffix not in SINGLE_FILES:
        return f"{path} is neither a folder in diffusers' format nor a file of weights ({', '.join(SINGLE_FILES)})"
    return (
        f"{path} is a single file of weights, without configuration and tokenizers: name a folder in diffusers' format "
        "that has those of such a model (its weights are not read) as diffusion.config"
    )


def check_single_file(path: Path, config: Path | None) -> Family:
    """The family of a file of weights, whose configuration and tokenizers lie in the folder ``config``.

    Raises
    ------
    FileNotFoundError
        where the folder, or one of its parts, is missing.
    ValueError
        where the file or the folder is of another kind, or the file is cut off.
    """
    if config is None or path.suffix not in SINGLE_FILES:
        raise ValueError(single_file(path))
    index = config / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(f"{config} (diffusion.config) has no model_index.json")
    family = family_of(str(_mapping(index).get("_class_name")), str(index))
    if missing := [part for part in family.parts if not (config / part).is_dir()]:
        raise FileNotFoundError(f"{config} (diffusion.config) lacks {', '.join(missing)}")
    if path.suffix == ".safetensors":
        check_weights(path)
    return family


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
