"""Learned tokens, as edits use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from partsynth.errors import UserError
from partsynth.store.hashing import sha256_file
from partsynth.store.tensors import safetensors_metadata

if TYPE_CHECKING:
    from torch import Tensor

    from partsynth.core.diffusion.model import StableDiffusion


@dataclass(frozen=True)
class Token:
    """A learned token's file."""

    name: str  # as written in prompts
    sha256: str
    path: Path


def learned_tokens(folder: Path, classes: Sequence[str], base: str) -> dict[str, Token]:
    """Class -> its token in ``folder``; ``base`` is the base model's identity.

    Raises
    ------
    UserError
        naming every token that is missing, of another class, or learned with another base model.
    """
    found, faults = {}, []
    for name in classes:
        path = folder / f"{name}.safetensors"
        metadata = safetensors_metadata(path)
        if metadata is None:
            faults.append(f"{path} is missing or torn: class {name} has no learned token")
        elif metadata.get("class_name") != name:
            faults.append(f"{path} holds the token of class {metadata.get('class_name')!r}")
        elif metadata.get("base_sha256") != base:
            faults.append(f"{path} was learned with base {metadata.get('base_sha256')}, diffusion.model is {base}")
        else:
            found[name] = Token(metadata["token"], sha256_file(path), path)
    if faults:
        raise UserError("tokens to be learned first (dvc repro tokens):\n  " + "\n  ".join(faults))
    return found


def install(model: StableDiffusion, tokens: Mapping[str, Token]) -> dict[str, Tensor]:
    """Teach the model the tokens; returns their vectors (V, width) by the name they have in prompts.

    Raises
    ------
    UserError
        where one does not fit the model.
    """
    from safetensors.torch import load_file

    vectors = {}
    for _, token in sorted(tokens.items()):
        vectors[token.name] = load_file(token.path)["vectors"]
        try:
            model.prompts.install_token(token.name, vectors[token.name])
        except ValueError as error:
            raise UserError(f"{token.path}: {error}") from error
    return vectors
