"""How strongly each class is edited, and how often for a quota (data/strengths/<set>.json)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from partsynth.errors import UserError
from partsynth.store.files import read_json

Strength = float | list[float]  # one, or several that a source's variants take in turn


class Probe(BaseModel):
    """Edits of a class's probe images at one strength."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strength: float
    drift: float  # the images' median, in class standard deviations
    in_band: float  # share of the images inside the set's target


class ClassStrength(BaseModel):
    """How strongly one class's images are edited, and how that was found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strength: Strength
    trail: list[Probe] = []  # of the bisection, in its order


class Attempts(BaseModel):
    """How many images one class draws for its set's quota."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: int  # images drawn
    accepted: int  # of them by quality
    quota: int  # accepted images that were wanted


class Strengths(BaseModel):
    """What the calibrate stage writes (data/strengths/<set>.json); the fields in the middle for strength: auto alone.

    Of a set whose method knows no strength, ``classes`` is empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    set_name: str
    calibration_n: int | None = None  # real validation images behind the percentiles
    near: float | None = None  # drift at which the target begins, in class standard deviations
    far: float | None = None  # drift at which it ends, for the search
    aim: float | None = None  # the median drift that was searched for: the middle
    classes: dict[str, ClassStrength]
    attempts: dict[str, Attempts] = Field(
        default={}, exclude_if=lambda value: not value
    )  # by class, of a set with a quota


def read_strengths(path: Path, set_name: str) -> Strengths:
    """What calibrate wrote of a set. Raises UserError where the file is missing, of another set, or something else."""
    found = _strengths(read_json(path), str(path))
    if found.set_name != set_name:
        raise UserError(f"{path} is of the set {found.set_name}, not of {set_name}: dvc repro calibrate@{set_name}")
    return found


def parse_strengths(data: bytes, name: str) -> Strengths:
    """The same of a file's bytes; ``name`` is how a fault calls it. Raises as ``read_strengths`` does."""
    try:
        return _strengths(json.loads(data), name)
    except ValueError as error:
        raise UserError(f"{name} is no JSON: {error}") from None


def _strengths(value: Any, name: str) -> Strengths:
    try:
        return Strengths.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{name} holds no strengths ({error.errors()[0]['msg']}): dvc repro calibrate") from None
