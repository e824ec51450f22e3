"""What edits are made from, each read when a method first asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from partsynth.augmentation.base_model import Base, find_base, load_model
from partsynth.augmentation.tokens import Token, learned_tokens
from partsynth.config.models import Diffusion
from partsynth.errors import UserError, listed
from partsynth.records.images import read_image
from partsynth.records.rows import RealRecord
from partsynth.store.files import inside
from partsynth.store.hashing import sha256_file

if TYPE_CHECKING:
    from partsynth.core.diffusion.model import StableDiffusion


class Materials:
    """Real images, tokens and base model of one project; a method that needs no base model never loads it.

    Parameters
    ----------
    real : the real images' rows
    tokens : the folder of learned tokens
    root : the folder that holds dvc.yaml
    """

    def __init__(self, *, real: Sequence[RealRecord], tokens: Path, diffusion: Diffusion, root: Path) -> None:
        self.real = {row.path: row for row in real}
        self.diffusion, self.root = diffusion, root
        self._tokens = tokens
        self._models: dict[tuple[str, bool], StableDiffusion] = {}

    @cached_property
    def base(self) -> Base:
        """The base model, with its adaptation. Raises UserError where there is none."""
        return find_base(self.diffusion, self.root)

    def model(self, dtype: str, compiled: bool) -> StableDiffusion:
        """The base model, its U-Net in ``dtype``, compiled or not; loaded once. Raises UserError where that fails."""
        key = dtype, compiled
        if key not in self._models:
            self._models[key] = load_model(self.base, self.diffusion.model_copy(update={"dtype": dtype}))
            if compiled:
                self._models[key].unet.compile(dynamic=False)  # when it is first called; batches have one shape
        return self._models[key]

    def tokens(self, classes: Iterable[str]) -> dict[str, Token]:
        """The classes' tokens. Raises UserError where one is missing, foreign, or of another base model."""
        return learned_tokens(self._tokens, sorted(set(classes)), self.base)

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes that training images show, sorted."""
        return sorted({row.class_name for row in self.real.values() if row.split == "train" and row.role == "target"})

    def source(self, path: str) -> Image.Image:
        """A training image, its bytes checked. Raises UserError where it is none, or is not as its manifest says."""
        row = self.real[path]
        if row.split != "train" or row.role != "target":
            raise UserError(f"{path} is a {row.split} image ({row.role}): only training images are edited")
        return read_image(self.root, row)

    def check_masks(self, sources: Iterable[RealRecord], key: str) -> None:
        """Raise UserError where one of the sources has no mask; ``key`` in params.yaml, with its value, wants them."""
        without = [s.path for s in sources if not s.mask or not inside(self.root, s.mask).is_file()]
        if without:
            raise UserError(f"{key} edits by masks, but these have no mask:\n  {listed(without)}")

    def mask(self, path: str) -> Image.Image:
        """Of a real image: white where the part is. Raises UserError where it cannot be read."""
        name = self.real[path].mask
        try:
            with Image.open(inside(self.root, name)) as mask:
                return mask.convert("L")
        except OSError as error:
            raise UserError(f"{name}: not a readable mask: {error}") from None

    def mask_sha256(self, path: str) -> str:
        """Of a real image's mask file."""
        return sha256_file(inside(self.root, self.real[path].mask))
