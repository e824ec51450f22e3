"""Where the base model lies, and its identity."""

from __future__ import annotations

import re
from pathlib import Path

from partsynth.errors import UserError
from partsynth.store.files import read_json
from partsynth.store.hashing import fingerprint, sha256_file

MODEL_SUFFIXES = {".json", ".txt", ".safetensors"}
MODEL_PARTS = ("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "vae")
ADAPTED = re.compile(r"(.*)\+([0-9a-f]{64})")


def locate_base(model: str, revision: str | None, root: Path, config: str | None = None) -> tuple[str, str]:
    """Where the base model is loaded from (a folder's path or a hub id), and its identity.

    A folder's identity is the hash of what a pipeline loads: model_index.json and the configurations, vocabularies
    and safetensors weights of the parts it names. A model card or a reference encoder beside them changes nothing.
    A hub id's identity is ``id@commit``: the commit that its revision stands for now, or the revision's name where
    the hub was never asked (offline and not in the cache). A file of weights' identity is its hash, and that of the
    configurations and vocabularies in the folder ``config``.

    Raises
    ------
    UserError
        where ``model`` is neither a folder in diffusers' format nor the shape of a hub id.
    """
    folder = Path(root) / model
    if not folder.exists():
        first, _, rest = model.partition("/")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", model) or (Path(root) / first).exists() or not rest:
            raise UserError(
                f"diffusion.model: {folder} does not exist (a folder in diffusers' format, relative to {root} or "
                "absolute, or a hub id such as owner/name)"
            )
        return model, f"{model}@{hub_commit(model, revision) or revision or 'main'}"
    if folder.is_file():
        return str(folder), _single(folder, None if config is None else Path(root) / config)
    index = folder / "model_index.json"
    if not index.is_file():
        raise UserError(f"diffusion.model: {folder} has no model_index.json, so it is no pipeline in diffusers' format")
    loaded = read_json(index)
    parts = [k for k in MODEL_PARTS if k in loaded]
    files = [index, *(p for part in parts for p in (folder / part).rglob("*") if p.suffix in MODEL_SUFFIXES)]
    return str(folder), fingerprint([[p.relative_to(folder).as_posix(), sha256_file(p)] for p in sorted(files)])


def _single(path: Path, config: Path | None) -> str:
    """The identity of a file of weights."""
    from partsynth.core.diffusion.folder import check_single_file

    try:
        parts = check_single_file(path, config).parts
    except (OSError, ValueError) as error:
        raise UserError(f"diffusion.model: {error}") from None
    assert config is not None  # else it was refused
    found = (p for part in parts for p in (config / part).rglob("*") if p.suffix in MODEL_SUFFIXES - {".safetensors"})
    files = [config / "model_index.json", *found]
    return fingerprint([sha256_file(path), [[p.relative_to(config).as_posix(), sha256_file(p)] for p in sorted(files)]])


def with_adaptation(base: str, adaptation: str | None) -> str:
    """The identity of a base model tuned by an adaptation (its file's sha256)."""
    return f"{base}+{adaptation}" if adaptation else base


def without_adaptation(identity: str) -> tuple[str, str | None]:
    """The base model's own identity, and the sha256 of the adaptation that tuned it; None = it is as it was."""
    found = ADAPTED.fullmatch(identity)
    return (found[1], found[2]) if found else (identity, None)


def hub_commit(model: str, revision: str | None) -> str | None:
    """The commit of a hub id that the cache holds for a revision, brought up to date where the hub can be reached; None
    where neither knows it. The cache's folder of a snapshot is named after its commit."""
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import hf_hub_download

    try:
        found = Path(hf_hub_download(model, "model_index.json", revision=revision))
    except Exception:  # no network, no such id: loading it says what is wrong
        return None
    return found.parent.name
