"""Figures as text."""

from __future__ import annotations

import pytest

from partsynth.evaluation.format import between, bracketed, estimate, exact, level, percent, points
from partsynth.evaluation.results import Interval

WITH = Interval(mean=-0.0123, low=-0.05, high=0.02, values=[-0.01, -0.0146])
ALONE = Interval(mean=0.76, values=[0.76])


@pytest.mark.parametrize(("fraction", "text"), [(0.76049, "76.0"), (-0.014, "−1.4"), (-0.0004, "0.0"), (1.0, "100.0")])
def test_percent(fraction: float, text: str) -> None:
    assert percent(fraction) == text


@pytest.mark.parametrize(
    ("fraction", "text"), [(0.0123, "+1.2"), (-0.0123, "−1.2"), (0.0, "0.0"), (-0.0004, "0.0"), (0.0004, "0.0")]
)
def test_points_have_a_sign_unless_they_are_none(fraction: float, text: str) -> None:
    assert points(fraction) == text


def test_digits_and_levels() -> None:
    assert percent(0.5, digits=0) == "50" and points(-0.03, digits=2) == "−3.00"
    assert (exact(0.06), exact(-1.0)) == ("6", "−100")
    assert (level(0.95), level(0.999)) == ("95 %", "99.9 %")


def test_estimates_have_an_interval_where_there_is_one() -> None:
    assert estimate(WITH, points) == "−1.2 [−5.0, +2.0]" and between(WITH, points) == "−5.0 to +2.0"
    assert estimate(ALONE) == "76.0" and between(ALONE) == ""
    assert bracketed(WITH, points) == "[−5.0, +2.0]" and bracketed(ALONE) == ""
    assert estimate(None) == "–"
