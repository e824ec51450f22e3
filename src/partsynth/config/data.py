"""Sections render, ingest and ood: where images come from."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from partsynth.config.base import Count, Fraction, Section, Seed, member_of, unless
from partsynth.seams import SOURCES

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class RenderInstances(Section):
    """Physical parts per class; each is photographed by two cameras."""

    train: Count = 8
    """Parts per target class for training."""
    val: Count = 6
    """Parts per target class for validation."""
    test: Count = 10
    """Parts per target class for the test."""
    shifted: Count = 10
    """Parts per target class for the test under other lamps, backgrounds and wear."""
    near_val: Count = 12
    """Parts per near-OOD class for validation."""
    near_test: Count = 20
    """Parts per near-OOD class for the test."""
    far_val: Count = 12
    """Parts per far-OOD class for validation."""
    far_test: Count = 25
    """Parts per far-OOD class for the test."""


class Render(Section):
    """The embedded data set of rendered used parts."""

    seed: Seed = 0
    """Draws parts, wear, cameras and lamps."""
    test_seed: Seed | None = None
    """Seed of the test, shifted and OOD parts, so that they stay as `seed` changes; null = seed."""
    roles: Annotated[Literal["benchmark", "development"], unless("benchmark")] = "benchmark"
    """Which variants are out of distribution and what the shifted part looks like: as in the benchmark, or others, for
    choices that must not look at its test. Targets are the same."""
    size: Annotated[int, Field(ge=32, le=512)] = 72
    """Pixels per side of the raw image, before the ROI crop."""
    samples: Annotated[int, Field(ge=1)] = 16
    """Light paths per pixel; a square number."""
    instances: RenderInstances = RenderInstances()
    """Physical parts per class."""
    classes: list[str] | None = None
    """Target classes to render; null = all twelve."""
    workers: Count | None = None
    """Processes; null = one per core."""

    @field_validator("samples")
    @classmethod
    def _square(cls, value: int) -> int:
        if round(value**0.5) ** 2 != value:
            raise ValueError(f"{value} is not a square number (the multijitter sampler needs one: 16, 25, 36, ...)")
        return value


class Ingest(Section):
    """Real photographs in, framed images with splits and groups out."""

    source: Annotated[str, member_of(SOURCES)] = "rendered"
    """How the source folder is laid out: the embedded data set's, MVIP's, or one folder per class."""
    path: str = "data/raw"
    """The source folder; absolute, or relative to the project's root."""
    shifted: Annotated[str | None, unless(None)] = None
    """Source folder: a second folder of the same classes, photographed at another place or in another state; the
    shifted part of the test. Absolute, or relative to the project's root. `partsynth upgrade` has DVC watch it."""
    size: Annotated[int, Field(ge=16, le=1024)] = 64
    """Pixels per side of a framed image."""
    dilation: Fraction = 0.04
    """ROI margin round the mask, as a fraction of the image's longer side."""
    masks: Literal["required", "optional", "none"] = "required"
    """Which photographs come with a mask of their part: all, or some; none = masks are not looked at."""
    unmasked: Literal["whole", "centre"] = "whole"
    """Without a mask: the whole frame, widened to a square, or its centre square."""
    classes: list[str] | None = None
    """Classes to take; null = every class found."""
    super_class: str | None = None
    """Source mvip: keep the classes of this super-class only (e.g. CarComponent)."""
    group_pattern: str | None = None
    """Source folder: regular expression over "<class>/<file>" whose groups name the spot; images of one spot stay in
    one split. null = each file is a spot of its own."""
    fractions: dict[Literal["train", "val", "test"], Fraction] = {"train": 0.6, "val": 0.2, "test": 0.2}
    """Share of the groups that each split gets; they sum to 1."""
    shots: Count | None = None
    """Training images per class, drawn by group; null = all."""
    val_shots: Count | None = None
    """Validation images per class, from which thresholds are made, drawn by group; null = all."""
    min_per_class: Count = 3
    """Training images that each class must have at least."""
    on_bad: Literal["fail", "skip"] = "fail"
    """Unreadable images and missing masks: fail with all of them named, or skip and list them."""
    near_duplicate: Annotated[int, Field(ge=0, le=64)] = 2
    """Near duplicates differ in at most this many bits of their perceptual hash (64 bits)."""
    on_duplicate: Literal["fail", "warn"] = "fail"
    """Exact or near duplicates across splits: fail, or warn."""
    seed: Seed = 0
    """Draws splits and shots."""
    taken_down: Annotated[dict[Sha256, str], unless({})] = {}
    """Photographs that are never taken in again: the file's sha256, and when and why it was taken down.
    `partsynth audit source --purge` writes them; data/real/taken_down.csv carries them into the data's version."""

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

    @model_validator(mode="after")
    def _shifted_folder(self) -> Ingest:
        if self.shifted is not None and self.source in ("rendered", "mvip"):
            raise ValueError(f"shifted: only for source: folder (source {self.source} has shifted_data of its own)")
        return self


class Ood(Section):
    """Out-of-distribution photographs for a source that brings none."""

    holdout_classes: list[str] = []
    """Classes kept out of training; their images become near-OOD."""
    far: Annotated[str | None, unless(None)] = None
    """A folder of photographs of other things, in class folders or not: far-OOD. Absolute, or relative to the project's
    root. `partsynth upgrade` has DVC watch it."""
    far_images: Annotated[Count | None, unless(None)] = None
    """At most so many images of it, as evenly over its classes as they have images; null = all. More than a few
    hundred take time and tell nothing new."""
