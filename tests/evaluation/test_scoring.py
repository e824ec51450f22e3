"""Choices are made on validation images alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from partsynth.config.evaluation import Evaluate
from partsynth.core.evaluation.metrics import auroc
from partsynth.core.evaluation.ood import known, neighbours
from partsynth.errors import UserError
from partsynth.evaluation.scoring import Embedded, choose_k, families_of, scorers, told, validation_auroc
from partsynth.seams import SCORES

LABELS = np.arange(30) % 2


@pytest.fixture
def world():
    """Random features: (what scores are fitted to, the parts that are seen, a maker of more parts)."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 8))
    fitted = known(features, np.arange(40) % 2, rng.normal(size=(2, 8)), np.zeros(2), k=5)

    def part(n, spread=1.0):
        return Embedded(rng.normal(size=(n, 8)) * spread, rng.normal(size=(n, 2)))

    return fitted, {"val": part(30), "near_val": part(30), "far_val": part(30)}, part


def test_k_is_chosen_without_the_test_part(world):
    """Whatever the test images look like, the choice stays; with other OOD-validation features it moves."""
    fitted, seen, part = world
    choice = choose_k([1, 5, 10], fitted, seen, LABELS)
    assert choice.source == "mean AUROC of near_val and far_val against val"
    assert choice.tried[str(choice.k)] == max(choice.tried.values())
    more = {"test": part(30), "near_test": part(30, 9), "far_test": part(5)}
    assert choose_k([1, 5, 10], fitted, seen | more, LABELS) == choice
    assert choose_k([400], fitted, seen, LABELS).k == 40
    moved = choose_k([1, 5, 10], fitted, seen | {"near_val": part(30, 9)}, LABELS)
    assert moved.tried != choice.tried


def test_k_without_ood_validation_images_is_that_of_the_best_knn_accuracy(world):
    fitted, seen, _ = world
    alone = choose_k([1, 5], fitted, {"val": seen["val"]}, LABELS)
    assert alone.source == "kNN accuracy on val, as there are no OOD validation images"
    assert alone.tried[str(alone.k)] == max(alone.tried.values())


def test_scorers_are_those_of_the_registry_in_its_order(world):
    fitted, seen, _ = world
    assert list(scorers(fitted)) == list(SCORES)
    found = scorers(fitted, ["energy", "knn"])
    assert list(found) == ["energy", "knn"]
    distances = neighbours(fitted, seen["val"].features, 5)[0][:, -1]
    np.testing.assert_array_equal(found["knn"](seen["val"].features, seen["val"].logits), distances)


@pytest.mark.parametrize("name", ["knn", "energy"])
def test_studies_see_the_headline_score_on_validation_images(world, name):
    fitted, seen, _ = world
    found = validation_auroc(Evaluate(headline_score=name), fitted, {"val": seen["val"], "far_val": seen["far_val"]})
    score = SCORES[name].fit(fitted)
    expected = auroc(*(score(seen[part].features, seen[part].logits) for part in ("val", "far_val")))
    assert found["far_ood_auroc"] == expected
    assert math.isnan(found["near_ood_auroc"])


def test_a_score_that_is_not_told_always_is_told_where_it_is_named():
    usual = told(Evaluate())
    assert "knn_by_class" not in usual and {"knn", "energy"} <= set(usual)
    for asked in (Evaluate(headline_score="knn_by_class"), Evaluate(more_scores=["knn_by_class"])):
        assert set(told(asked)) == {*usual, "knn_by_class"}
    assert Evaluate().model_dump().keys().isdisjoint({"more_scores", "families"})


def test_families_are_classes_of_one_pattern():
    names = ["gear_a", "gear_b", "nut", "pump_a", "pump_b"]
    found = families_of(Evaluate(families={"gear_*": "gear", "pump_*": "pump"}), names)
    assert found.tolist() == [0, 0, 2, 3, 3]
    assert families_of(Evaluate(families={"*_a": "x", "*_b": "x"}), names).tolist() == [0, 0, 2, 0, 0]
    with pytest.raises(UserError, match=r"evaluate\.families: 'bolt_\*' matches no class; there are gear_a, "):
        families_of(Evaluate(families={"bolt_*": "bolt"}), names)
