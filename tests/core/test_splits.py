import itertools
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from partsynth.core.splits import divided, draw_shots, draw_splits

FRACTIONS = {"train": 0.6, "val": 0.2, "test": 0.2}
LEAST = {"train": 3, "val": 1, "test": 1}

photographs = st.lists(
    st.tuples(st.sampled_from([f"g{i}" for i in range(9)]), st.sampled_from("abc")), min_size=1, max_size=60
)


@settings(max_examples=60, deadline=None)
@given(photographs, st.integers(0, 2**63 - 1))
def test_a_group_is_in_one_split_and_order_does_not_matter(photos, seed):
    groups, classes = zip(*photos, strict=True)
    drawn = draw_splits(groups, classes, FRACTIONS, LEAST, seed)
    assert set(drawn) == set(groups)
    assert set(drawn.values()) <= set(FRACTIONS)
    assert draw_splits(groups[::-1], classes[::-1], FRACTIONS, LEAST, seed) == drawn


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(5, 40), min_size=2, max_size=5))
def test_single_photographs_fill_every_split_near_its_share(seed, sizes):
    classes = [f"c{i}" for i, n in enumerate(sizes) for _ in range(n)]
    groups = [f"{c}/{i}" for i, c in enumerate(classes)]
    drawn = draw_splits(groups, classes, FRACTIONS, LEAST, seed)
    have = Counter((c, drawn[g]) for c, g in zip(classes, groups, strict=True))
    for i, n in enumerate(sizes):
        for split, share in FRACTIONS.items():
            assert have[f"c{i}", split] >= LEAST[split]
            assert abs(have[f"c{i}", split] - share * n) <= 1.5


def test_the_repair_reaches_what_is_possible():
    # one large group holds most of both classes; only one of the draws gives every split its minimum
    groups = ["big"] * 8 + ["s1"] * 2 + ["s2"] * 2
    classes = ["a", "b"] * 6
    for seed in range(20):
        drawn = draw_splits(groups, classes, FRACTIONS, LEAST, seed)
        assert drawn["big"] == "train"
        assert {drawn["s1"], drawn["s2"]} == {"val", "test"}


@settings(max_examples=30, deadline=None)
@given(photographs, st.integers(0, 2**32))
def test_one_more_class_of_its_own_groups_moves_no_other_picture(photos, seed):
    groups, classes = zip(*photos, strict=True)
    drawn = draw_splits(groups, classes, FRACTIONS, LEAST, seed)
    more = draw_splits([*groups, *(f"a{i}" for i in range(7))], [*classes, *"zzzzzzz"], FRACTIONS, LEAST, seed)
    assert drawn.items() <= more.items()


def test_an_empty_share_stays_empty():
    drawn = draw_splits(list("abcdefgh"), ["x"] * 8, {"train": 0.5, "val": 0.5, "test": 0.0}, {"test": 1}, 0)
    assert Counter(drawn.values()) == {"train": 4, "val": 4}


def test_shots_are_nested_and_spread_over_groups():
    groups = list(np.repeat(["g0", "g1", "g2", "g3"], 5))
    for seed in range(5):
        series = [draw_shots(groups, k, seed) for k in (1, 2, 4, 8, 16, 99)]
        for fewer, more in itertools.pairwise(series):
            assert set(fewer) < set(more)
        assert {groups[i] for i in series[2]} == {"g0", "g1", "g2", "g3"}
        assert series[-1] == list(range(20))
    assert draw_shots(groups, 2, 0) != draw_shots(groups, 2, 1)


def test_divided_groups_are_those_in_several_splits():
    images = [("a", "train"), ("a", "train"), ("b", "test"), ("b", "val"), ("c", "test")]
    assert divided(images) == {"b": {"test", "val"}} and divided([]) == {}
