"""Data for trainings of the base model's parts that take a step or two."""

from __future__ import annotations

import math

import torch

CAPTIONS = [
    f"a photo of a {s} {f}, {n} holes"
    for s in ("rusty", "used", "brand new")
    for f in ("gear", "flange")
    for n in (3, 4)
]


def quiet(step: int, values: dict[str, float]) -> None:
    assert math.isfinite(values["loss"])


def random_images(count: int, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, side, side, 3), generator=generator, dtype=torch.uint8)
