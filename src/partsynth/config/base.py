"""What every section of params.yaml is made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import core_schema

from partsynth.errors import did_you_mean, either
from partsynth.seams import Registry

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Section(BaseModel):
    """Unknown keys are faults and values never change after loading. (Files are read strictly: see ``load``.)"""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def unless(default: Any) -> Any:
    """A key that is left out of what is written at its default: identities from before it existed stay as they are."""
    return Field(exclude_if=lambda value: value == default)


@dataclass(frozen=True)
class member_of:
    """Of a text: it is the name of a member of a seam, as ``Annotated[str, member_of(RULES)]``.

    The registry is asked when a value is validated, so that members of plugins count.
    """

    registry: Registry
    also: tuple[str, ...] = ()  # words that are allowed beside the members

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.registry.names, *self.also)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def _known(self, name: str) -> str:
        names = self.names
        if name not in names:
            raise ValueError(f"should be {either(names)} (found {name!r}{did_you_mean(name, names)})")
        return name
