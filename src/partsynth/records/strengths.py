"""How strongly each class is edited (data/strengths/<set>.json)."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from partsynth.errors import UserError
from partsynth.store.files import read_json


class Probe(BaseModel):
    """Edits of a class's probe pictures at one strength."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strength: float
    drift: float  # the pictures' median, in class standard deviations
    in_band: float  # share of the pictures inside the set's target


class ClassStrength(BaseModel):
    """How strongly one class's pictures are edited, and how that was found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strength: float | list[float]
    trail: list[Probe] = []  # of the bisection, in its order


class Strengths(BaseModel):
    """What the calibrate stage writes (data/strengths/<set>.json); the fields in the middle for strength: auto alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    set_name: str
    calibration_n: int | None = None  # real validation pictures behind the percentiles
    near: float | None = None  # drift at which the target begins, in class standard deviations
    far: float | None = None  # drift at which it ends, for the search
    aim: float | None = None  # the median drift that was searched for: the middle
    classes: dict[str, ClassStrength]


def read_strengths(path: Path) -> Strengths:
    try:
        return Strengths.model_validate(read_json(path))
    except ValidationError as error:
        raise UserError(f"{path} holds no strengths ({error.errors()[0]['msg']}): dvc repro calibrate") from None
