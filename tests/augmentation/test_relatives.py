from __future__ import annotations

import pytest

from partsynth.augmentation.relatives import phrases_by_class, place, siblings_by_class, turns
from partsynth.errors import UserError

CLASSES = ["gear_a", "gear_b", "pump_a", "pump_b", "pump_c"]


def test_the_first_pattern_that_matches_decides() -> None:
    words = {"gear_a": ["x"], "gear_*": ["y"], "*": ["z"]}
    found = phrases_by_class(words, CLASSES[:3], CLASSES, "sets.n.words")
    assert found == {"gear_a": ["x"], "gear_b": ["y"], "pump_a": ["z"]}


def test_siblings_are_the_others_of_a_family_or_all_others() -> None:
    found = siblings_by_class({"gear_*": "gear", "pump_*": "pump"}, ["gear_a", "pump_b"], CLASSES, "k")
    assert found == {"gear_a": ["gear_b"], "pump_b": ["pump_a", "pump_c"]}
    assert siblings_by_class(None, ["pump_b"], CLASSES, "k") == {"pump_b": ["gear_a", "gear_b", "pump_a", "pump_c"]}


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: phrases_by_class({"geer_*": ["x"]}, CLASSES, CLASSES, "sets.n.words"), "'geer_.' matches no class"),
        (lambda: phrases_by_class({"gear_*": ["x"]}, CLASSES, CLASSES, "sets.n.words"), "no phrase for pump_a, pump_b"),
        (lambda: siblings_by_class({"bolt_*": "b"}, CLASSES, CLASSES, "sets.n.siblings"), "matches no class"),
        (lambda: siblings_by_class({"gear_*": "g"}, CLASSES, CLASSES, "sets.n.siblings"), "no family for pump_a"),
        (
            lambda: siblings_by_class({"gear_*": "g", "*": "p"}, ["gear_a"], ["gear_a", "pump_a"], "k"),
            "no sibling of gear_a",
        ),
        (
            lambda: siblings_by_class(None, ["gear_a"], ["gear_a"], "k"),
            "null means all other classes, and there is none",
        ),
    ],
)
def test_what_matches_nothing_is_told_in_one_sentence(call, told) -> None:
    with pytest.raises(UserError, match=told):
        call()


def test_an_order_is_the_same_for_the_same_identity_alone() -> None:
    items = list("abcdefgh")
    assert sorted(turns(items, "phrase", 0, "n", "sha")) == items
    assert turns(items, "phrase", 0, "n", "sha") == turns(items[::-1], "phrase", 0, "n", "sha")
    assert len({tuple(turns(items, "phrase", 0, "n", str(i))) for i in range(5)}) == 5


@pytest.mark.parametrize(("own", "others"), [(2, 2), (3, 3), (4, 2), (3, 2), (1, 4), (4, 6)])
def test_items_in_turn_meet_every_partner(own, others) -> None:
    """Of two lists of one length, taken in step, each would meet one partner."""
    pairs = [(place(v, own, others), v % others) for v in range(own * others)]
    assert len(set(pairs)) == own * others
    assert [place(v, own, others) for v in range(own)] == list(range(own)) or others < own
