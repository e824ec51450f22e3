from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from partsynth.core.sampling import spread


@given(st.integers(0, 60), st.integers(1, 30))
def test_spread_is_even_rising_and_has_the_ends(total, count):
    chosen = spread(range(total), count)
    assert len(chosen) == min(total, count) and chosen == sorted(set(chosen))
    if len(chosen) > 1:
        gaps = [b - a for a, b in itertools.pairwise(chosen)]
        assert (chosen[0], chosen[-1]) == (0, total - 1) and max(gaps) - min(gaps) <= 1
