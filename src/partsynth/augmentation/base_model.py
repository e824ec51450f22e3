"""The base model, loaded as params.yaml names it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from partsynth.config.models import Diffusion
from partsynth.errors import UserError

if TYPE_CHECKING:
    from partsynth.core.diffusion.model import StableDiffusion


def load_model(location: str, diffusion: Diffusion) -> StableDiffusion:
    """The model at ``location`` (a folder or hub id, from ``locate_base``) on the parameters' device, in their dtype.

    Raises
    ------
    UserError
        where it cannot be loaded.
    """
    from partsynth.core.diffusion.loading import load
    from partsynth.store.base_model import hub_commit

    revision = diffusion.revision
    if not Path(location).exists():  # of a hub id exactly what its identity names
        revision = hub_commit(location, revision) or revision
    try:
        return load(location, revision, diffusion.device, diffusion.dtype)
    except (ValueError, OSError) as error:
        raise UserError(f"diffusion.model: {error}") from error
