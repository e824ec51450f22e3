"""How strongly each class is edited (data/strengths/<set>.json)."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

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


def read_strengths(path: Path) -> Strengths:
    """What calibrate wrote. Raises UserError where the file is missing or holds something else."""
    try:
        return Strengths.model_validate(read_json(path))
    except ValidationError as error:
        raise UserError(f"{path} holds no strengths ({error.errors()[0]['msg']}): dvc repro calibrate") from None
