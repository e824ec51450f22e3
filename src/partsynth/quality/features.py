"""Features of images by the frozen reference encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from partsynth.config.models import Reference
from partsynth.errors import UserError
from partsynth.store.hashing import fingerprint, sha256_tree
from partsynth.store.layout import Layout

if TYPE_CHECKING:
    from partsynth.core.drift.reference import ReferenceEncoder

Embed = Callable[[list[Image.Image]], np.ndarray]  # B images -> (B, D) float32, L2-normalised


class Encoder:
    """The reference encoder, loaded when the first image wants it.

    Attributes
    ----------
    identity : hash of its weights, or of hub id and revision
    folder : of what was measured with this encoder
    """

    def __init__(self, reference: Reference, root: Path) -> None:
        self.reference = reference
        local = root / reference.model
        self.model = str(local) if local.exists() else reference.model
        content = sha256_tree(local) if local.is_dir() else [reference.model, reference.revision]
        self.identity = fingerprint(["reference features", content])
        self.folder = Layout(root).features / self.identity[:16]
        self._loaded: ReferenceEncoder | None = None

    def __call__(self, images: list[Image.Image]) -> np.ndarray:
        """Features (B, D) of B images.

        Raises
        ------
        UserError
            where the encoder cannot be loaded, its device is not there, or its features are no numbers.
        """
        found = self.loaded(images, batch_size=self.reference.batch_size)
        if not np.isfinite(found).all():
            raise UserError(
                f"reference.model: the features by {self.model} are no numbers (NaN): its weights are damaged; bring "
                "them back (git checkout or dvc checkout), or fetch them anew"
            )
        return found

    @property
    def loaded(self) -> ReferenceEncoder:
        """The network itself. Raises as a call does."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _load(self) -> ReferenceEncoder:
        from partsynth.core import devices
        from partsynth.core.drift import reference

        try:
            device = devices.pick(self.reference.device)
        except ValueError as error:
            raise UserError(f"reference: {error}") from None
        try:
            return reference.load(self.model, self.reference.revision, device)
        except (OSError, ValueError) as error:
            raise UserError(f"reference.model: {error}") from None
        except Exception as error:  # of a damaged folder libraries raise whatever they please
            told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise UserError(f"reference.model: {self.model} has a damaged file ({told})") from None


def embed_batch(embed: Embed, images: Sequence[Image.Image], batch_size: int) -> np.ndarray:
    """Features (B, D) float32 of at most ``batch_size`` images, as of a full batch: padded with the last image, because
    features may depend on a batch's shape."""
    padded = [*images, *[images[-1]] * (batch_size - len(images))]
    return embed(padded)[: len(images)].astype(np.float32)
