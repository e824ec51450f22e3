"""Sections diffusion and reference: the frozen models that make and judge images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from partsynth.config.base import Count, Positive, Section, Seed, unless

Steps = Annotated[int, Field(ge=0)]


class Adapt(Section):
    """Stage adapt: the model tuned on one's own training images, its VAE and (by LoRA) its U-Net."""

    vae_steps: Steps = 300
    """Optimiser steps of the VAE, at most; 0 = it stays as it is."""
    vae_learning_rate: Positive = 3e-4
    """Peak learning rate of the VAE."""
    unet_steps: Steps = 300
    """Optimiser steps of the U-Net's adapter, at most; 0 = none."""
    unet_learning_rate: Positive = 1e-3
    """Peak learning rate of the adapter."""
    rank: Annotated[int, Field(ge=1, le=256)] = 8
    """Of the adapter's matrices."""
    batch_size: Count = 8
    """Images per step."""
    every: Count = 50
    """Steps between two measurements on validation images; the best weights are kept."""
    patience: Count = 4
    """Measurements without a better one, after which it ends."""
    template: str = "a photo of a {state} {class}"
    """The prompt of an image; {class} becomes its class's name, {state} its own state word or nothing."""
    seed: Seed = 0
    """Draws images, prompts, noise and the adapter's start."""

    @field_validator("template")
    @classmethod
    def _has_class(cls, value: str) -> str:
        if "{class}" not in value:
            raise ValueError("needs {class}: the class's name must be in the prompt")
        return value


class Diffusion(Section):
    """Which Stable Diffusion (1.x, 2.x, XL) makes the images."""

    model: str = "models/base"
    """A local folder in diffusers' format, a hub id, or a single file of weights (.safetensors, .ckpt)."""
    config: Annotated[str | None, unless(None)] = None
    """Of a single file: a local folder in diffusers' format with the configuration and tokenizers of such a model."""
    revision: str | None = None
    """Revision of a hub id; null = its newest."""
    variant: Annotated[str | None, unless(None)] = None
    """Of the weights' files, as fp16; null = plain ones, or in a folder without them those it has."""
    size: Annotated[int, Field(ge=32, le=1024)] = 64
    """Pixels per side that the model works at; a multiple of 8."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the model's weights and computation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs; auto = a GPU where there is one."""
    threads: Annotated[Count | None, unless(None)] = None
    """CPU threads of each of the stages adapt, tokens, calibrate and generate; null = one per core. Last bits depend on
    it. With fewer than there are cores, `partsynth repro` runs such stages side by side."""
    compile: Annotated[bool, unless(False)] = False
    """Compile the U-Net for calibrate and generate (torch.compile, which wants a C compiler): a minute once in each
    stage, then faster. Images differ in their last bits from those without."""
    adapt: Annotated[Adapt | None, unless(None)] = None
    """Tune the model on one's own training images first; null = leave it as it is, {} = with the settings below."""

    @field_validator("size")
    @classmethod
    def _multiple(cls, value: int) -> int:
        if value % 8:
            raise ValueError(f"{value} is not a multiple of 8")
        return value


class Reference(Section):
    """The frozen feature extractor that measures drift; never one of the classifiers under test."""

    model: str = "models/base/reference_encoder"
    """The embedded encoder's folder; or DINOv2 or CLIP, as a folder or hub id."""
    revision: str | None = None
    """Revision of a hub id; null = its newest."""
    batch_size: Count = 64
    """Images per forward pass."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs; auto = a GPU where there is one."""
    threads: Annotated[Count | None, unless(None)] = None
    """CPU threads of a stage quality (calibrate has diffusion.threads); null = one per core. As there, last bits depend
    on it, and such stages may run side by side."""
