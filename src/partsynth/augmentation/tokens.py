"""Classes as they were learned, as edits use them: tokens and adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from partsynth.errors import UserError
from partsynth.store.hashing import sha256_file
from partsynth.store.reading import read_tensors
from partsynth.store.tensors import safetensors_metadata

if TYPE_CHECKING:
    from torch import Tensor

    from partsynth.augmentation.base_model import Base
    from partsynth.core.diffusion.model import StableDiffusion


DEFAULT_METHOD = "textual_inversion"  # of files that name none


@dataclass(frozen=True)
class Token:
    """A learned class's file: a token's vectors, or an adapter."""

    name: str  # as written in prompts
    sha256: str
    path: Path
    method: str = DEFAULT_METHOD

    @property
    def adapter(self) -> str | None:
        """The name that its adapter has in the model; None where it has none."""
        return None if self.method == DEFAULT_METHOD else f"c{self.sha256[:24]}"


def learned_tokens(folder: Path, classes: Sequence[str], base: Base) -> dict[str, Token]:
    """Class -> its token in ``folder``; ``base`` is what they must be learned with.

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
        elif metadata.get("base_sha256") != base.identity:
            faults.append(
                f"{path} was learned with base {metadata.get('base_sha256')}, diffusion.model ({base.location}) is "
                f"{base.identity} now; if it was to stay as it was, dvc checkout brings it back"
            )
        else:
            found[name] = Token(metadata["token"], sha256_file(path), path, metadata.get("method", DEFAULT_METHOD))
    if faults:
        raise UserError("tokens to be learned first (dvc repro tokens):\n  " + "\n  ".join(faults))
    return found


def install(model: StableDiffusion, tokens: Mapping[str, Token]) -> dict[str, Tensor]:
    """Teach the model the classes; returns tokens' vectors (V, width) by the name they have in prompts.

    Adapters are given to it, switched off (``core.diffusion.lora.switch`` uses one).

    Raises
    ------
    UserError
        where one does not fit the model.
    """
    from partsynth.core.diffusion import lora

    vectors = {}
    for _, token in sorted(tokens.items()):
        tensors = read_tensors(token.path)
        if whole := sorted(name for name, value in tensors.items() if not value.is_floating_point()):
            raise UserError(f"{token.path} holds whole numbers in {whole[0]}: dvc checkout restores it")
        try:
            if token.adapter is not None:
                if not lora.has(model.unet, token.adapter):
                    weights = {name.removeprefix("unet."): value for name, value in tensors.items()}
                    lora.load(model.unet, weights, token.adapter)
                    model.unet.to(model.device, model.dtype)
                continue
            vectors[token.name] = model.prompts.from_tensors(tensors)
            model.prompts.install_token(token.name, vectors[token.name])
        except ValueError as error:
            raise UserError(f"{token.path}: {error}") from error
        except (KeyError, TypeError, RuntimeError) as error:
            raise UserError(f"{token.path} holds no learned token ({error}): dvc checkout restores it") from error
    return vectors
