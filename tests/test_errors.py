"""Faults in words."""

from __future__ import annotations

import pytest

from partsynth.errors import did_you_mean, either, listed


@pytest.mark.parametrize(
    ("count", "text"), [(0, ""), (2, "0\n  1"), (3, "0\n  1\n  2"), (5, "0\n  1\n  2\n  ... and 2 more")]
)
def test_many_faults_are_counted(count: int, text: str) -> None:
    assert listed([str(n) for n in range(count)], most=3) == text


def test_what_was_meant_is_said_where_it_is_close() -> None:
    assert did_you_mean("temprature", ["steps", "temperature"]) == ", did you mean temperature"
    assert did_you_mean("x", ["steps", "temperature"]) == ""


@pytest.mark.parametrize(
    ("names", "text"), [([], ""), (["a"], "'a'"), (["a", "b"], "'a' or 'b'"), (["a", "b", "c"], "'a', 'b' or 'c'")]
)
def test_alternatives(names: list[str], text: str) -> None:
    assert either(names) == text
