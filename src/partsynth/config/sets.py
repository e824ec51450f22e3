"""Entries of ``sets`` in params.yaml: augmentation sets, each with the keys of its own method."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, field_validator, model_validator
from pydantic_core import PydanticKnownError, core_schema

from partsynth.config.base import Count, Fraction, Positive, Section, member_of, unless
from partsynth.seams import METHODS


class AugmentationSet(Section):
    """One augmentation set (an entry of ``sets``): what every method takes. A method's own keys are a subclass."""

    method: Annotated[str, member_of(METHODS)] = "sdedit"
    """How the set's images are made; it decides which other keys there are."""
    variants: Annotated[int, Field(ge=0)] = 2
    """Images per source."""
    quota: Annotated[Count | None, unless(None)] = None
    """Images per class that quality must accept: stage calibrate judges attempts until a class has as many, and the set
    holds all its attempts. variants are drawn in any case. null = variants alone."""
    max_attempts: Annotated[Count | None, unless(None)] = None
    """Attempts per class at which a quota is given up; null = four times the quota."""

    @property
    def limit(self) -> int:
        """Attempts per class at which the quota is given up."""
        return self.max_attempts or 4 * (self.quota or 0)

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.max_attempts is not None and self.max_attempts < (self.quota or self.max_attempts + 1):
            raise ValueError("max_attempts is the limit of quota: give a quota of at most as many images")
        return self


class StrengthSet(AugmentationSet):
    """A set whose method edits at a strength, which stage calibrate can search for."""

    strength: Fraction | list[Fraction] | Literal["auto"]
    """How strongly images are edited, in [0, 1], or several that a source's variants take in turn; auto = each class's
    own, found by stage calibrate."""
    target: tuple[Fraction, Fraction] = (0.95, 1.0)
    """Strength auto: wanted percentiles of drift among real validation images, above the first, at most the second."""
    cap: Positive | None = None
    """Strength auto: drift at most this, in class standard deviations; null = search as far beyond the target's first
    as real images' median to 95th percentile."""

    @field_validator("strength")
    @classmethod
    def _some(cls, value: float | list[float]) -> float | list[float]:
        if isinstance(value, list) and not value:
            raise ValueError("an empty list of strengths")
        return value

    @field_validator("target")
    @classmethod
    def _rising(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] >= value[1]:
            raise ValueError(f"the lower end {value[0]} is not below the upper end {value[1]}")
        return value


class _Method(BaseModel):
    """An entry of ``sets``, read for its method alone."""

    model_config = ConfigDict(extra="ignore")

    method: Annotated[str, member_of(METHODS)] = "sdedit"


def set_model(value: Any) -> type[AugmentationSet]:
    """What an entry of ``sets`` is read as: the parameters of the method it names.

    Raises
    ------
    ValidationError
        where it is no mapping, or its method is none of the registry's.
    """
    if not isinstance(value, Mapping):
        raise PydanticKnownError("dict_type")
    return METHODS[_Method.model_validate(value).method].Parameters


class by_method:
    """Of an entry of ``sets``: it is validated as the parameters of its own method."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._validated)

    @staticmethod
    def _validated(value: Any) -> AugmentationSet:
        if isinstance(value, AugmentationSet):
            return value
        # as JSON: a list may then fill a tuple, while no text is taken for a number
        return set_model(value).model_validate_json(json.dumps(value), strict=True)


def set_models() -> dict[str, type[AugmentationSet]]:
    """Method -> the keys of a set that is made by it, for help."""
    return {name: METHODS[name].Parameters for name in METHODS}
