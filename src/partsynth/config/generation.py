"""Sections tokens, calibrate and generate: what all augmentation sets share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from partsynth.config.base import Count, Fraction, Positive, Section, Seed, member_of, unless
from partsynth.config.models import Diffusion, Reference
from partsynth.config.pretraining import Base
from partsynth.config.quality import Quality
from partsynth.seams import CONCEPTS

__all__ = ["Base", "Calibrate", "Diffusion", "Generate", "Quality", "Reference", "Tokens"]


class Lora(Section):
    """Adapters of tokens.method lora and dreambooth_lora."""

    rank: Annotated[int, Field(ge=1, le=256)] = 8
    """Of an adapter's matrices."""
    layers: Literal["attention", "all"] = "attention"
    """Which layers of the U-Net get an adapter; all = convolutions too, for a model as small as the embedded one."""
    steps: Count = 200
    """Optimiser steps per class."""
    batch_size: Count = 4
    """Images of the class per step; of dreambooth_lora as many of the prior beside them."""
    learning_rate: Positive = 5e-4
    """Peak learning rate."""
    identifier: Annotated[str, Field(pattern=r"^[^<>|{}]+$")] = "sks"
    """The rare word before a class's first word in prompts (dreambooth_lora)."""
    prior_images: Count = 32
    """Images that the model makes of each first word, to keep its meaning (dreambooth_lora)."""
    prior_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the error on those images (dreambooth_lora)."""


class Tokens(Section):
    """How classes are learned: by textual inversion, one token of several vectors per class, or by an adapter."""

    method: Annotated[str, member_of(CONCEPTS), unless("textual_inversion")] = "textual_inversion"
    """How: textual_inversion learns words alone, lora and dreambooth_lora an adapter of the U-Net per class, with the
    keys of lora in place of vectors, steps, batch_size, learning_rate and warmup."""
    lora: Annotated[Lora, unless(Lora())] = Lora()
    vectors: Annotated[int, Field(ge=1, le=32)] = 4
    """Embedding vectors per token."""
    init_word: str = "part"
    """The vectors start from this word's embedding (the mean of its pieces)."""
    init_words: dict[str, str] = {}
    """Start words of classes whose name matches a pattern, as in {gear_*: gear}, in place of init_word."""
    steps: Count = 400
    """Optimiser steps; each trains all classes together."""
    batch_size: Count = 4
    """Images per class and step."""
    learning_rate: Positive = 5e-3
    """Peak learning rate, after the warm-up."""
    warmup: Annotated[int, Field(ge=0)] = 20
    """Steps in which the learning rate rises."""
    flips: bool = True
    """Mirrored latents count as further images."""
    templates: list[str] = ["a photo of a {state} {token}"]
    """Prompts, drawn per image; {token} becomes the class's token, {state} the image's own state word or nothing."""
    seed: Seed = 0
    """Draws start vectors, images, prompts and noise."""

    @field_validator("templates")
    @classmethod
    def _has_token(cls, value: list[str]) -> list[str]:
        if not value or any("{token}" not in t for t in value):
            raise ValueError("every template needs {token}")
        return value


class Calibrate(Section):
    """Search of each class's strength, by bisection on a few edits, for the sets with strength: auto."""

    sources: Count = 6
    """Training images per class that are edited in each round; drawn by generate.seed."""
    rounds: Count = 6
    """Bisection steps, all classes together; each halves what is between min and max."""
    min: Fraction = 0.02
    """Smallest strength tried."""
    max: Fraction = 0.95
    """Largest strength tried."""

    @model_validator(mode="after")
    def _rising(self) -> Calibrate:
        if self.min >= self.max:
            raise ValueError(f"min {self.min} is not below max {self.max}")
        return self


class Generate(Section):
    """What all augmentation sets share."""

    steps: Annotated[int, Field(ge=1, le=1000)] = 25
    """DDIM steps of the whole schedule; SDEdit runs strength x steps."""
    batch_size: Count = 32
    """Images per batch; of a fixed shape, the last batch is padded."""
    template: str = "a photo of a {state} {token}"
    """The prompt; {token} becomes the class's token, {state} a state word of the set."""
    max_sources: Count | None = None
    """Training images per class that are edited; null = all."""
    seed: Seed = 0
    """Draws which training images are edited, their state words and the noise."""
    storage: Annotated[Literal["files", "shards"], unless("files")] = "files"
    """How sets are kept: a file per image, or tar shards (WebDataset's layout) for more than about 100,000 images."""
    shard_size: Annotated[Count, unless(256)] = 256
    """MB at which a shard is closed."""

    @field_validator("template")
    @classmethod
    def _has_token(cls, value: str) -> str:
        if "{token}" not in value:
            raise ValueError("needs {token}: the learned token must be in the prompt")
        return value
