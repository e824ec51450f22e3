"""Sections of params.yaml for the base model, tokens and augmentation sets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from partsynth.config.base import Count, Fraction, Positive, Section, Seed


class Base(Section):
    """Training of the embedded Stable Diffusion and reference encoder (frozen stage)."""

    seed: Seed = 0
    images: Count = 20000
    size: Count = 64  # pixels a side
    vae_images: Count = 7500  # the corpus' first pictures, enough for the VAE
    vae_steps: Count = 8000
    vae_batch_size: Count = 64
    unet_steps: Count = 24000
    batch_size: Count = 512  # of the U-Net
    reference_steps: Count = 4000
    reference_tune_steps: Count = 800  # with pictures through the VAE and in training's views ...
    reference_tune_images: Count = 10000  # ... of the corpus' first
    caption_dropout: Fraction = 0.1
    ema: Fraction = 0.9995
    workers: Count | None = None


class Diffusion(Section):
    """Which Stable Diffusion 1.x/2.x makes the pictures."""

    model: str = "models/base"  # a local folder in diffusers' format, or a hub id
    revision: str | None = None  # of a hub id
    size: Annotated[int, Field(ge=32, le=1024)] = 64  # pixels a side the model works at; a multiple of 8
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @field_validator("size")
    @classmethod
    def _multiple(cls, value: int) -> int:
        if value % 8:
            raise ValueError(f"{value} is not a multiple of 8")
        return value


class Reference(Section):
    """The frozen feature extractor that measures drift; never one of the classifiers under test."""

    model: str = "models/base/reference_encoder"  # embedded encoder's folder, or DINOv2/CLIP: a folder or hub id
    revision: str | None = None
    batch_size: Count = 64
    device: Literal["auto", "cpu", "cuda"] = "auto"


class Tokens(Section):
    """Textual inversion: one token of several vectors a class."""

    vectors: Annotated[int, Field(ge=1, le=32)] = 4
    init_word: str = "part"  # the vectors start from this word's embedding (the mean of its pieces) ...
    init_words: dict[str, str] = {}  # ... or, for classes that match a pattern (gear_*: gear), from this one's
    steps: Count = 400  # optimiser steps, all classes together in each
    batch_size: Count = 4  # pictures a class a step
    learning_rate: Positive = 5e-3
    warmup: Annotated[int, Field(ge=0)] = 20  # steps
    flips: bool = True  # mirrored latents count as further pictures
    templates: list[str] = ["a photo of a {state} {token}"]  # {state} becomes the picture's own state word or nothing
    seed: Seed = 0

    @field_validator("templates")
    @classmethod
    def _has_token(cls, value: list[str]) -> list[str]:
        if not value or any("{token}" not in t for t in value):
            raise ValueError("every template needs {token}")
        return value


class Calibrate(Section):
    """Search of each class's strength, by bisection on a few edits, for the sets with strength: auto."""

    sources: Count = 6  # training pictures a class that are edited in each round; drawn by generate.seed
    rounds: Count = 6  # bisection steps, all classes together; each halves what is between min and max
    min: Fraction = 0.02  # smallest strength tried
    max: Fraction = 0.95  # largest strength tried

    @model_validator(mode="after")
    def _rising(self) -> Calibrate:
        if self.min >= self.max:
            raise ValueError(f"min {self.min} is not below max {self.max}")
        return self


class Generate(Section):
    """What all augmentation sets share."""

    steps: Annotated[int, Field(ge=1, le=1000)] = 25  # DDIM steps of the whole schedule; SDEdit runs strength x steps
    batch_size: Count = 32  # fixed shape: the last batch is padded
    template: str = "a photo of a {state} {token}"
    max_sources: Count | None = None  # training pictures a class; null = all
    seed: Seed = 0

    @field_validator("template")
    @classmethod
    def _has_token(cls, value: str) -> str:
        if "{token}" not in value:
            raise ValueError("needs {token}: the learned token must be in the prompt")
        return value


class AugmentationSet(Section):
    """One augmentation set (an entry of ``sets``)."""

    strength: (
        Fraction | list[Fraction] | Literal["auto"]
    )  # of the noise schedule: 0 = VAE round trip only, 1 = from pure noise; auto = a class's own, by stage calibrate
    target: tuple[Fraction, Fraction] = (
        0.95,
        1.0,
    )  # strength auto: wanted percentiles of drift among real validation pictures, above the first, at most the second
    cap: Positive | None = (
        None  # strength auto: drift at most this, in class standard deviations; null = search as far beyond the target's first as real pictures' median to 95th percentile
    )
    variants: Annotated[int, Field(ge=0)] = 2  # pictures a source
    guidance: Annotated[float, Field(ge=0, le=50)] = 4.0  # classifier-free guidance scale
    states: list[str] = ["used", "rusty", "dirty", "broken", "brand new"]  # state words, drawn by seed
    token_noise: Annotated[float, Field(ge=0, le=1)] = 0.0  # sigma added to the token's vectors (DIAGen)
    masked: bool = False  # edit the part alone, keep the background
    restore: Fraction = 0.0  # of the source's detail that the VAE loses (source less its round trip), put back into the edit; for low strengths, where detail still fits

    @field_validator("strength")
    @classmethod
    def _some(cls, value: float | list[float]) -> float | list[float]:
        if isinstance(value, list) and not value:
            raise ValueError("an empty list of strengths")
        return value

    @field_validator("target")
    @classmethod
    def _rising(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] >= value[1]:
            raise ValueError(f"the lower end {value[0]} is not below the upper end {value[1]}")
        return value


class Quality(Section):
    """Which pictures drifted too far, or are no pictures."""

    neighbours: Count = 3  # real parts averaged in the distance to a class
    calibration: Literal["views", "pictures"] = (
        "views"  # real validation pictures: each through one of training's views, or as it is
    )
    accept_percentile: Fraction = 0.95  # of the calibration's drift: what lies beyond it is flagged
    sharpness_ratio: Annotated[float, Field(ge=0)] = 0.25  # of the real pictures' lower quantile
    brightness_margin: Annotated[float, Field(ge=0)] = 0.15  # outside the real pictures' range, of [0, 1]
    min_contrast: Annotated[float, Field(ge=0)] = 0.02  # standard deviation of luminance, of [0, 1]
    copy_similarity: Fraction = 0.995  # correlation with its own source above which it is a copy
    on_flagged: Literal["warn", "drop", "fail"] = "drop"
    max_flagged: Fraction = 0.5  # share of a set that may be flagged before the Great Expectations suite fails
