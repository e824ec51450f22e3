"""Sections of params.yaml that say where images come from."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from partsynth.config.base import Count, Fraction, Section, Seed, member_of
from partsynth.seams import SOURCES


class RenderInstances(Section):
    """Physical parts a class; each is photographed by two cameras."""

    train: Count = 8
    val: Count = 6
    test: Count = 10
    shifted: Count = 10
    near_val: Count = 12
    near_test: Count = 20
    far_val: Count = 12
    far_test: Count = 25


class Render(Section):
    """The embedded data set of rendered used parts."""

    seed: Seed = 0
    test_seed: Seed | None = (
        None  # seed of the test, shifted and OOD parts, so that they stay as `seed` changes; null = seed
    )
    size: Annotated[int, Field(ge=32, le=512)] = 72  # pixels a side of the raw picture, before the ROI crop
    samples: Annotated[int, Field(ge=1)] = 16  # light paths a pixel; a square number
    instances: RenderInstances = RenderInstances()
    classes: list[str] | None = None  # target classes to render; null = all twelve
    workers: Count | None = None  # processes; null = one a core

    @field_validator("samples")
    @classmethod
    def _square(cls, value: int) -> int:
        if round(value**0.5) ** 2 != value:
            raise ValueError(f"{value} is not a square number (the multijitter sampler needs one: 16, 25, 36, ...)")
        return value


class Ingest(Section):
    """Real photographs in, framed pictures with splits and groups out."""

    source: Annotated[str, member_of(SOURCES)] = "rendered"
    path: str = "data/raw"  # the source folder; absolute, or relative to the repository's root
    size: Annotated[int, Field(ge=16, le=1024)] = 64  # pixels a side of a framed picture
    dilation: Fraction = 0.04  # ROI margin round the mask, as a fraction of the picture's longer side
    masks: Literal["required", "optional", "none"] = "required"
    unmasked: Literal["whole", "centre"] = (
        "whole"  # without a mask: the frame widened to a square, or its middle square
    )
    classes: list[str] | None = None  # null = every class found
    super_class: str | None = None  # mvip: keep the classes of this super-class only (e.g. CarComponent)
    group_pattern: str | None = None  # folder: regular expression over "<class>/<file>"; its first group names the spot
    fractions: dict[Literal["train", "val", "test"], Fraction] = {"train": 0.6, "val": 0.2, "test": 0.2}  # of groups
    shots: Count | None = None  # training pictures a class, drawn by group; null = all
    val_shots: Count | None = None  # the same for validation pictures, which thresholds are made of
    min_per_class: Count = 3  # in the training split
    on_bad: Literal["fail", "skip"] = "fail"  # unreadable pictures, missing masks: one error, or skipped and listed
    near_duplicate: Annotated[int, Field(ge=0, le=64)] = 2  # bits of perceptual hash apart, at most, across splits
    on_duplicate: Literal["fail", "warn"] = "fail"  # exact or near duplicates across splits
    seed: Seed = 0  # draws splits and shots

    @field_validator("group_pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                groups = re.compile(value).groups
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
            if groups < 1:
                raise ValueError("needs at least one (group) that names the spot")
        return value

    @field_validator("fractions")
    @classmethod
    def _whole(cls, value: dict[str, float]) -> dict[str, float]:
        if set(value) != {"train", "val", "test"} or abs(sum(value.values()) - 1) > 1e-6:
            raise ValueError("needs train, val and test, summing to 1")
        return value


class Ood(Section):
    """Out-of-distribution classes for a source that brings none."""

    holdout_classes: list[str] = []  # classes kept out of training; their pictures become near-OOD
