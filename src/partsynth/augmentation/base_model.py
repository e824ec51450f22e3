"""The base model as params.yaml names it, with its adaptation where stage adapt made one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from partsynth.config.models import Diffusion
from partsynth.errors import UserError
from partsynth.store.base_model import locate_base, with_adaptation
from partsynth.store.hashing import sha256_file
from partsynth.store.layout import ADAPTATION
from partsynth.store.tensors import safetensors_metadata

if TYPE_CHECKING:
    from partsynth.core.diffusion.model import StableDiffusion


class Base(NamedTuple):
    """Where the base model is loaded from."""

    location: str
    """A folder's path or a hub id."""
    identity: str
    """Of the model, and of its adaptation where it has one."""
    adaptation: Path | None = None
    """The file of weights that tune it."""
    config: Path | None = None
    """Of a single file of weights: the folder with its configuration."""


def find_base(diffusion: Diffusion, root: Path) -> Base:
    """The base model, and its adaptation where ``diffusion.adapt`` asks for it.

    Raises
    ------
    UserError
        where there is no model, or no adaptation of it.
    """
    location, identity = locate_base(diffusion.model, diffusion.revision, root, diffusion.config)
    config = root / diffusion.config if diffusion.config is not None else None
    if diffusion.adapt is None:
        return Base(location, identity, None, config)
    path = root / ADAPTATION
    metadata = safetensors_metadata(path)
    if metadata is None:
        raise UserError(f"diffusion.adapt: {path} is missing or torn: dvc repro adapt (or `partsynth adapt`) makes it")
    if (tuned := metadata.get("base_sha256")) != identity:
        raise UserError(f"diffusion.adapt: {path} tunes base {tuned}, diffusion.model is {identity}: dvc repro adapt")
    return Base(location, with_adaptation(identity, sha256_file(path)), path, config)


def load_model(base: Base, diffusion: Diffusion) -> StableDiffusion:
    """The model on the parameters' device, in their dtype; torch has their threads from now on.

    Raises
    ------
    UserError
        where it cannot be loaded.
    """
    from partsynth.core import devices
    from partsynth.core.diffusion.loading import load
    from partsynth.store.base_model import hub_commit

    revision = diffusion.revision
    if not Path(base.location).exists():  # of a hub id exactly what its identity names
        revision = hub_commit(base.location, revision) or revision
    devices.use_threads(diffusion.threads)
    try:
        return load(
            base.location, revision, diffusion.device, diffusion.dtype, base.adaptation, diffusion.variant, base.config
        )
    except (ValueError, OSError) as error:
        raise UserError(f"diffusion.model: {error}") from error
