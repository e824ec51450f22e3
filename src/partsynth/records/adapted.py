"""What stage adapt says of its product: figures before and after, and what was learned from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from partsynth.errors import UserError
from partsynth.store.files import read_json
from partsynth.store.hashing import sha256_file
from partsynth.store.tensors import safetensors_metadata


class Gain(BaseModel):
    """One figure on validation images, with the base model and after its tuning."""

    model_config = ConfigDict(frozen=True)

    before: float
    after: float
    step: int
    """Of the weights that were kept; 0 = the base model's own did best."""


class Figures(BaseModel):
    """What was gained. ``psnr`` in dB, of the VAE's reconstructions; ``denoising_error`` the U-Net's mean squared error
    on latents of the tuned VAE; None where that part was left as it is."""

    model_config = ConfigDict(frozen=True)

    train_images: int
    val_images: int
    psnr: Gain | None = None
    denoising_error: Gain | None = None
    shown: tuple[str, ...] = ()
    """Paths of the validation images on the sheet, from the left."""

    def flat(self) -> dict[str, float]:
        """As MLflow has them: ``val_psnr_before``."""
        when = ("before", "after")
        return {f"val_{name}_{time}": getattr(gain, time) for name, gain in self._gains() for time in when}

    def lines(self) -> Iterator[str]:
        """For a terminal."""
        digits = {"psnr": 2, "denoising_error": 4}
        words = {"psnr": "PSNR of the VAE in dB", "denoising_error": "denoising error of the U-Net"}
        for name, gain in self._gains():
            change = f"{gain.before:.{digits[name]}f} -> {gain.after:.{digits[name]}f}"
            yield f"{words[name]} on {self.val_images} validation images: {change} (weights of step {gain.step})"

    def _gains(self) -> Iterator[tuple[str, Gain]]:
        for name in ("psnr", "denoising_error"):
            if (gain := getattr(self, name)) is not None:
                yield name, gain


def adaptation_metadata(
    mark: str, base: str, sources: Sequence[Sequence[str]], shown: Sequence[Sequence[str]], figures: Figures
) -> Mapping[str, str]:
    """The header of the file of weights; ``sources`` are path and sha256 of the images learned from, ``shown`` of
    those on the sheet."""
    return {
        "fingerprint": mark,
        "base_sha256": base,
        "sources": json.dumps([list(source) for source in sources]),
        "shown": json.dumps([list(one) for one in shown]),
        "figures": figures.model_dump_json(),
    }


def adaptation_entry(path: Path, name: str) -> dict[str, Any]:
    """The manifest of stage adapt; ``name`` is the path of the file of weights below the root."""
    metadata = safetensors_metadata(path) or {}
    return {
        "adapted": True,
        "path": name,
        "sha256": sha256_file(path),
        "fingerprint": metadata["fingerprint"],
        "base_sha256": metadata["base_sha256"],
        "figures": json.loads(metadata["figures"]),
    }


def read_adaptation(manifest: Path) -> Figures | None:
    """The figures of an adaptation; None where the model was left as it is, or the project is from before this stage.

    Raises
    ------
    UserError
        where the manifest is damaged.
    """
    if not manifest.is_file():
        return None
    told = read_json(manifest)
    try:
        return Figures.model_validate(told["figures"]) if told["adapted"] else None
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{manifest} is damaged: dvc repro adapt") from None
