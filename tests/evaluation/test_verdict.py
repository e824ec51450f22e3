"""Sentences follow the numbers, and name what was changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from partsynth.evaluation import metrics
from partsynth.evaluation.results import Clusters, Difference
from partsynth.evaluation.verdict import Change, changes, verdict
from partsynth.records.rows import SelectedRecord
from partsynth.seams import METRICS


def difference(metric, low, mean, high, setup="b", base="a", seeds=5):
    over = [Clusters(count=8, of="unseen variants")]
    return Difference(
        setup=setup, base=base, metric=metric, mean=mean, low=low, high=high, values=[mean] * seeds, clusters=over
    )


DIFFERENCES = [
    difference("accuracy_test", -0.01, 0.02, 0.05),
    difference("accuracy_shifted", 0.021, 0.06, 0.1),
    difference("near_ood_auroc", -0.09, -0.05, -0.012),
]


def test_sentences_follow_the_numbers():
    found = verdict(DIFFERENCES, {("b", "a"): Change("ID augmentations", "positive")}, 0.95)
    assert [(s.metric, s.effect, s.main) for s in found] == [
        ("accuracy_shifted", "helps", True),
        ("accuracy_test", "no evidence", False),
        ("near_ood_auroc", "hurts", False),
    ]
    assert found[0].text == (
        "ID augmentations changed shifted accuracy by +6.0 points (5 seeds and 8 unseen variants, "
        "95 % CI +2.1 to +10.0): helps."
    )
    negatives = verdict(DIFFERENCES, {("b", "a"): Change("Near-OOD negatives", "negative")}, 0.95)
    assert negatives[0].metric == "near_ood_auroc" and negatives[0].main
    assert "by −5.0 points" in negatives[0].text and "95 % CI −9.0 to −1.2" in negatives[0].text


def test_a_change_is_told_of_its_own_pair_alone():
    """Names may hold hyphens: x-y against z, and x against y-z, are two pairs."""
    one = difference("accuracy_test", 0.01, 0.02, 0.03, "x-y", "z")
    other = difference("accuracy_test", -0.03, -0.02, -0.01, "x", "y-z")
    pairs = {("x-y", "z"): Change("first"), ("x", "y-z"): Change("second")}
    found = verdict([one, other], pairs, 0.95)
    assert [(s.setup, s.base, s.change, s.effect) for s in found] == [
        ("x-y", "z", "first", "helps"),
        ("x", "y-z", "second", "hurts"),
    ]


def test_one_seed_gives_no_verdict():
    alone = Difference(setup="b", base="a", metric="accuracy_test", mean=0.02, low=None, high=None, values=[0.02])
    (found,) = verdict([alone], {("b", "a"): Change("ID augmentations")}, 0.95)
    assert found.effect == "too few to tell"
    assert found.text == "ID augmentations changed test accuracy by +2.0 points (1 seed): too few to tell."


@pytest.mark.parametrize(("seeds", "effect"), [(1, "too few to tell"), (4, "too few to tell"), (5, "helps")])
def test_fewer_than_five_seeds_are_too_few_to_tell(seeds, effect):
    (found,) = verdict([difference("accuracy_test", 0.01, 0.02, 0.03, seeds=seeds)], {("b", "a"): Change("It")}, 0.95)
    assert found.effect == effect and found.text.endswith(f"{effect}.")


@pytest.mark.parametrize(("low", "high", "effect"), [(0.01, 0.03, "hurts"), (-0.03, -0.01, "helps")])
def test_less_can_be_better(low, high, effect):
    spoken = metrics.Spoken("miss rate", "classification", 0)
    METRICS.register("misses", replace(METRICS["accuracy_test"], name="misses", more_is_better=False, spoken=spoken))
    try:
        (found,) = verdict([difference("misses", low, 0.02, high)], {("b", "a"): Change("It")}, 0.95)
    finally:
        METRICS.unregister("misses")
    assert found.effect == effect and "miss rate" in found.text


def test_changes_name_what_a_setup_added(evaluated):
    said = {(s.setup, s.base): s.change for s in evaluated.verdict}
    assert said == {("real_id", "real"): "ID augmentations", ("real_id_negatives", "real_id"): "Near-OOD negatives"}


def rows(origin, role, count=3, rule="accepted"):
    facts = {"sha256": "0", "class_name": "gear", "source": "s", "group": "g", "role": role, "rule": rule}
    return [SelectedRecord(path=f"{origin}/{i}.png", origin=origin, **facts) for i in range(count)]


def test_a_control_is_compared_with_the_setup_it_extends():
    real, synthetic = rows("real", "positive"), rows("id", "positive")
    tables = {
        "real": real,
        "real_id": [*real, *synthetic],
        "control": [*real, *rows("other", "negative")],
        "same": [*real, *synthetic],
    }
    found = changes(list(tables), tables)
    assert found["control", "real"] == ("other negatives", "negative")
    assert found["same", "real_id"].what == "same over real_id (no image was left to add)"


def test_a_use_of_negatives_is_named_with_them():
    real, negatives = rows("real", "positive"), rows("near_ood", "negative", rule="nobody")
    tables = {"real": real, "exposed": [*real, *negatives], "head": real}
    exposure = {"negative_use": "outlier_exposure", "negative_scope": "all"}
    trained = {"real": {"negative_scope": "own"}, "exposed": exposure, "head": exposure}
    found = changes(list(tables), tables, trained)
    assert found["exposed", "real"] == ("Near-OOD negatives as outlier exposure", "negative")
    assert found["head", "real"].what == "negative_use outlier_exposure"  # nothing is used so


def test_setups_that_differ_by_their_training_are_named_by_it():
    real, synthetic = rows("real", "positive"), rows("id", "positive")
    band = [*real, *synthetic, *rows("near_ood", "negative", 2, "band")]
    lottery = [*real, *synthetic, *rows("near_ood", "negative", 3, "random")[1:]]
    tables = {
        "real": real,
        "rand": real,
        "real_id": [*real, *synthetic],
        "band": band,
        "weak": band,
        "strong": band,
        "own": band,
        "random": lottery,
        "others": [*real, *synthetic, *rows("real", "negative")],
    }
    shared = {"negative_weight": 1.0, "negative_scope": "all", "augment": "standard", "steps": 5}
    trained = dict.fromkeys(tables, shared) | {
        "rand": shared | {"augment": "randaugment"},
        "weak": shared | {"negative_weight": 0.3},
        "strong": shared | {"negative_weight": 3.0},
        "own": shared | {"negative_scope": "own"},
        "others": shared | {"negative_scope": "other"},
    }
    assert changes(list(tables), tables, trained) == {
        ("rand", "real"): ("RandAugment", ""),
        ("real_id", "real"): ("ID augmentations", "positive"),
        ("band", "real_id"): ("Near-OOD negatives", "negative"),
        ("weak", "band"): ("negative_weight 0.3", "negative"),
        ("strong", "band"): ("negative_weight 3.0", "negative"),
        ("own", "band"): ("negative_scope own", "negative"),
        ("random", "real_id"): ("Random near_ood negatives", "negative"),
        ("others", "real_id"): ("Real negatives", "negative"),
    }
    same = changes(["real", "again"], {"real": real, "again": real}, trained | {"again": shared})
    assert same["again", "real"][0] == "again over real (no image was left to add)"
