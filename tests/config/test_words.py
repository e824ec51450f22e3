"""Types of parameters, in words."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from partsynth.config.base import Count, Fraction, Positive, Seed, member_of
from partsynth.config.words import type_text
from partsynth.seams import SOURCES


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Count, "whole number >= 1"),
        (Positive | None, "number > 0, or null"),
        (Seed, "whole number >= 0"),
        (list[Fraction], "list of: number 0 to 1"),
        (tuple[Fraction, Fraction], "[number 0 to 1, number 0 to 1]"),
        (bool, "true or false"),
        (dict[str, int], "mapping text -> whole number"),
        (Literal["a", "b"], "one of a, b"),
        (Annotated[int, Field(ge=8, multiple_of=8)], "whole number >= 8, a multiple of 8"),
        (Annotated[str, member_of(SOURCES)], "one of rendered, mvip, folder"),
        (Annotated[str, member_of(SOURCES)] | None, "one of rendered, mvip, folder, or null"),
    ],
)
def test_types_are_said_in_words(annotation: object, text: str) -> None:
    assert type_text(annotation) == text
