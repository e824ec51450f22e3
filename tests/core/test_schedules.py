from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partsynth.core.schedules import cosine_with_warmup, half_cosine, warmup_cosine


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    rates = [warmup_cosine(step, 100, 10) for step in range(100)]
    assert rates[0] < 0.15 and rates[:11] == sorted(rates[:11]) and rates[10] == 1
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] < 0.01
    assert warmup_cosine(0, 10, 0) == 1 and math.isfinite(warmup_cosine(0, 1, 1.0))


@given(steps=st.integers(1, 2000), share=st.floats(0, 1), data=st.data())
def test_a_share_of_the_peak_is_never_nothing_and_never_more(steps: int, share: float, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, steps - 1))
    assert 0 < warmup_cosine(step, steps, share * steps) <= 1
    assert 0 < cosine_with_warmup(step, steps, int(share * steps), 0.02) <= 1


def test_half_a_cosine() -> None:
    assert (half_cosine(0, 8), half_cosine(8, 8)) == (1, 0)
    assert half_cosine(4, 8) == pytest.approx(0.5) and half_cosine(2, 8) == pytest.approx(0.5 + math.sqrt(2) / 4)


def test_the_base_models_schedule_ends_at_its_floor_and_warms_up_on_the_way() -> None:
    """The same floats as the base model was trained with."""
    for step in range(50):
        warm = min(1.0, (step + 1) / max(1, 10))
        expected = warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / 50)))
        assert cosine_with_warmup(step, 50, 10, 0.02) == expected
    assert cosine_with_warmup(0, 50, 0, 0.02) == 1 and cosine_with_warmup(50, 50, 0, 0.02) == 0.02
