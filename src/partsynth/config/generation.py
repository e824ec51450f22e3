"""Sections tokens, calibrate and generate: what all augmentation sets share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from partsynth.config.base import Count, Fraction, Positive, Section, Seed
from partsynth.config.models import Diffusion, Reference
from partsynth.config.pretraining import Base
from partsynth.config.quality import Quality

__all__ = ["Base", "Calibrate", "Diffusion", "Generate", "Quality", "Reference", "Tokens"]


class Tokens(Section):
    """Textual inversion: one token of several vectors per class."""

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

    @field_validator("template")
    @classmethod
    def _has_token(cls, value: str) -> str:
        if "{token}" not in value:
            raise ValueError("needs {token}: the learned token must be in the prompt")
        return value
