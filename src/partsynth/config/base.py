"""What every section of params.yaml is made of."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Section(BaseModel):
    """Unknown keys are faults and values never change after loading. (Files are read strictly: see ``_validate``.)"""

    model_config = ConfigDict(frozen=True, extra="forbid")
