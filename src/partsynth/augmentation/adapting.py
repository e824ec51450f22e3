"""A base model tuned on training images, measured on validation images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from partsynth.augmentation.base_model import Base, load_model
from partsynth.config.models import Adapt, Diffusion
from partsynth.errors import UserError
from partsynth.records.adapted import Figures, Gain
from partsynth.records.images import read_image
from partsynth.records.rows import RealRecord
from partsynth.store.files import prune
from partsynth.store.layout import Layout
from partsynth.store.state import SavedState

if TYPE_CHECKING:
    from torch import Tensor

    from partsynth.core.diffusion.adaptation import Settings, Tuned
    from partsynth.core.diffusion.model import StableDiffusion

SHEET = "reconstruction.png"
SHOWN = 8  # validation images on the sheet
CELL = 128  # pixels of its images, at most
Log = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What is tuned, on what."""

    diffusion: Diffusion
    adapt: Adapt
    base: Base
    """As it is before."""
    mark: str
    """The fingerprint of all of it."""
    root: Path
    train: Sequence[RealRecord]
    val: Sequence[RealRecord]

    def state(self, part: str) -> SavedState:
        return SavedState(Layout(self.root).work / "adapt" / f"{self.mark[:16]}-{part}.safetensors", self.mark)

    def settings(self, steps: int, learning_rate: float) -> Settings:
        from partsynth.core.diffusion.adaptation import Settings

        adapt = self.adapt
        return Settings(steps, adapt.batch_size, learning_rate, adapt.every, adapt.patience, adapt.seed)

    def forget(self) -> None:
        """Delete the states, the product being written."""
        for part in ("vae", "unet"):
            self.state(part).delete()


@dataclass(frozen=True)
class Adapted:
    """The product."""

    weights: dict[str, Tensor]
    figures: Figures
    shown: Sequence[RealRecord]  # validation images on the sheet
    sheet: np.ndarray  # uint8 (3 x side, n x side, 3): photographs, their reconstructions before, and after


def tune(tuning: Tuning, log: Log) -> Adapted:
    """Tune the VAE, then the U-Net on the tuned VAE's latents; from their states where there are some.

    Raises
    ------
    UserError
        where an image differs from its manifest, the model cannot be loaded, a prompt is too long, or a loss is not
        finite.
    """
    adapt, size = tuning.adapt, tuning.diffusion.size
    images = {split: [read_image(tuning.root, row) for row in getattr(tuning, split)] for split in ("train", "val")}

    from partsynth.core.diffusion.adaptation import tune_unet, tune_vae
    from partsynth.core.diffusion.images import to_bytes, to_tensor

    prune(Layout(tuning.root).work / "adapt", [tuning.state(part).path for part in ("vae", "unet")])
    full = tuning.diffusion.model_copy(update={"dtype": "float32"})
    model = load_model(tuning.base, full)
    pixels = {split: to_bytes(to_tensor(some, size)) for split, some in images.items()}  # (N, S, S, 3)
    chosen = np.linspace(0, len(pixels["val"]) - 1, min(SHOWN, len(pixels["val"]))).round().astype(int)
    shown = pixels["val"][chosen]
    rows = [shown, _round_trip(model, shown)]
    weights: dict[str, Tensor] = {}
    gains: dict[str, Gain] = {}

    def take(name: str, tuned: Tuned) -> None:
        weights.update(tuned.weights)
        digits = 6
        gains[name] = Gain(before=round(tuned.before, digits), after=round(tuned.after, digits), step=tuned.step)

    try:
        if adapt.vae_steps:
            settings = tuning.settings(adapt.vae_steps, adapt.vae_learning_rate)
            told = _told("vae", adapt.vae_steps, log)
            take("psnr", tune_vae(model, pixels["train"], pixels["val"], settings, tuning.state("vae"), told))
        rows.append(_round_trip(model, shown))
        if adapt.unet_steps:
            latents = {
                split: (model.encode(to_tensor(some, size)), _prompts(adapt, getattr(tuning, split)))
                for split, some in images.items()
            }
            settings = tuning.settings(adapt.unet_steps, adapt.unet_learning_rate)
            told, state = _told("unet", adapt.unet_steps, log), tuning.state("unet")
            take(
                "denoising_error", tune_unet(model, latents["train"], latents["val"], adapt.rank, settings, state, told)
            )
    except FloatingPointError as error:
        raise UserError(f"adapt: {error} (diffusion.adapt.vae_learning_rate, unet_learning_rate)") from error
    except ValueError as error:
        raise UserError(f"diffusion.adapt.template: {error}") from error
    figures = Figures(
        train_images=len(tuning.train),
        val_images=len(tuning.val),
        psnr=gains.get("psnr"),
        denoising_error=gains.get("denoising_error"),
        shown=tuple(tuning.val[i].path for i in chosen),
    )
    return Adapted(weights, figures, [tuning.val[i] for i in chosen], _sheet(rows))


def _prompts(adapt: Adapt, rows: Sequence[RealRecord]) -> list[str]:
    from partsynth.core.diffusion.prompts import fill

    template = adapt.template.replace("{class}", "{token}")
    return [fill(template, row.state, row.class_name.replace("_", " ")) for row in rows]


def _told(part: str, steps: int, log: Log) -> Log:
    def log_and_print(step: int, values: dict[str, float]) -> None:
        text = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        print(f"adapt: {part}, step {step} of at most {steps}: {text}", flush=True)
        log(step, {f"{part}_{name}": value for name, value in values.items()})

    return log_and_print


def _round_trip(model: StableDiffusion, images: Tensor) -> Tensor:
    """uint8 (n, S, S, 3) after the VAE."""
    from partsynth.core.diffusion.images import to_bytes
    from partsynth.core.pretraining.loop import as_floats

    return to_bytes(model.decode(model.encode(as_floats(images))).cpu())


def _sheet(rows: Sequence[Tensor]) -> np.ndarray:
    side = min(CELL, rows[0].shape[1])

    def cell(image: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS))

    return np.concatenate([np.concatenate([cell(image) for image in row.numpy()], 1) for row in rows])
