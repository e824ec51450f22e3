"""Sections diffusion and reference: the frozen models that make and judge images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from partsynth.config.base import Count, Section


class Diffusion(Section):
    """Which Stable Diffusion 1.x/2.x makes the images."""

    model: str = "models/base"
    """A local folder in diffusers' format, or a hub id."""
    revision: str | None = None
    """Revision of a hub id; null = its newest."""
    size: Annotated[int, Field(ge=32, le=1024)] = 64
    """Pixels per side that the model works at; a multiple of 8."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the model's weights and computation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs; auto = a GPU where there is one."""

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
