"""Figures, intervals and differences from a table of predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from partsynth.config.evaluation import Evaluate
from partsynth.evaluation.predictions import read_predictions
from partsynth.evaluation.summary import summarise
from partsynth.seams import SCORES

DETECTION = {f"{kind}_ood_{name}" for kind in ("near", "far") for name in ("auroc", "aupr_in", "aupr_out", "fpr95")}


@pytest.fixture(scope="module")
def table(evaluated_project):
    return read_predictions(evaluated_project[0].root / "reports/metrics/predictions.csv")


def test_figures_follow_from_the_predictions_by_an_independent_path(evaluated, table):
    rows = table[(table.setup == "real_id") & (table.seed == 1)]
    test, near, found = rows[rows.part == "test"], rows[rows.part == "near_test"], evaluated.setups["real_id"]
    assert found["accuracy_test"].values[1] == pytest.approx((test.class_name == test.predicted).mean(), abs=1e-6)
    truth = [0] * len(test) + [1] * len(near)
    area = roc_auc_score(truth, [*test.knn, *near.knn])
    assert found["near_ood_auroc"].values[1] == pytest.approx(area, abs=1e-6)
    cut = np.quantile(test.knn, 0.95, method="inverted_cdf")
    assert found["near_ood_fpr95"].values[1] == pytest.approx((near.knn <= cut).mean(), abs=1e-6)
    assert found["id_confidence"].values[1] == pytest.approx(rows[rows.part == "val"].confidence.mean(), abs=1e-6)


def test_differences_are_paired_over_seeds(evaluated):
    a, b = (evaluated.setups[s]["accuracy_test"].values for s in ("real_id", "real"))
    found = evaluated.difference("real_id", "real", "accuracy_test")
    assert found.values == pytest.approx(np.subtract(a, b), abs=2e-6)
    assert [(c.count, c.of) for c in found.clusters] == [(12, "physical parts")]
    assert found.low <= found.mean <= found.high and 0 <= found.p <= 1
    # two unseen variants say nothing of others, so their parts are told
    over = evaluated.difference("real_id", "real", "near_ood_auroc").clusters
    assert [c.of for c in over] == ["parts of unseen variants", "physical parts"]
    alone = evaluated.difference("real_id", "real", "ece_test")
    assert not alone.clusters and (alone.low, alone.high) == (alone.seeds_alone.low, alone.seeds_alone.high)


def test_an_interval_over_seeds_and_parts_is_not_narrower_than_its_seeds_say(evaluated):
    for found in evaluated.differences:
        assert found.high - found.low >= (found.seeds_alone.high - found.seeds_alone.low) * 0.3
    wider = [d for d in evaluated.differences if d.clusters and d.high - d.low > d.seeds_alone.high - d.seeds_alone.low]
    assert wider


def test_no_interval_passes_what_a_figure_can_be(table):
    """Right in all but one seed: the t interval alone would end beyond 100 %."""
    last = table.seed.max()
    found = summarise(table.assign(predicted=table.class_name.where(table.seed != last, "none")), Evaluate(), None)
    accuracy = found.setups["real"]["accuracy_test"]
    assert sorted(accuracy.values) == [0.0, *[1.0] * (len(accuracy.values) - 1)]
    assert (accuracy.low, accuracy.high) == (0.0, 1.0)
    for metrics in found.setups.values():
        for one in metrics.values():
            assert one.low is None or -1 <= one.low <= one.mean <= one.high <= 1


def test_a_draws_figures_are_the_means_of_its_initialisations(evaluated, table):
    seeds = sorted(table.seed.unique())
    one_draw = summarise(table.assign(draw=7), Evaluate(), None)
    for setup, metrics in evaluated.setups.items():
        for name, plain in metrics.items():
            assert one_draw.setups[setup][name].values == pytest.approx([np.mean(plain.values)], abs=1e-6), (
                setup,
                name,
            )
    assert one_draw.seeds["real"] == [7] and len(seeds) > 1
    apart = summarise(table.assign(draw=table.seed), Evaluate(), None)
    assert apart.setups == evaluated.setups and apart.differences == evaluated.differences


def test_balanced_accuracy_weighs_classes_alike(table):
    names = sorted(table.class_name[table.part == "test"].unique())
    rare = (table.part == "test") & (table.class_name == names[0]) & ~table.path.str.endswith("0.png")
    uneven = table[~rare]
    found = summarise(uneven, Evaluate(accuracy="classes"), None)
    plain = summarise(uneven, Evaluate(), None)
    rows = uneven[(uneven.setup == "real") & (uneven.seed == uneven.seed.min()) & (uneven.part == "test")]
    recalls = [(of.predicted == name).mean() for name, of in rows.groupby("class_name")]
    assert len(rows) < (table.setup == "real").sum() and rows.class_name.value_counts().nunique() > 1
    assert found.setups["real"]["accuracy_test"].values[0] == pytest.approx(np.mean(recalls), abs=1e-6)
    assert plain.setups["real"]["accuracy_test"].values[0] == pytest.approx(
        (rows.predicted == rows.class_name).mean(), abs=1e-6
    )
    assert found.titles()["accuracy_test"].title == "balanced accuracy, test"
    assert plain.titles()["accuracy_test"].title == "accuracy, test"
    assert found.setups["real"]["near_ood_auroc"] == plain.setups["real"]["near_ood_auroc"]
    assert any("balanced accuracy" in s.text for s in found.verdict)


def test_every_pair_of_setups_is_compared_the_nearest_first(evaluated):
    pairs = [("real_id", "real"), ("real_id_negatives", "real_id"), ("real_id_negatives", "real")]
    assert evaluated.pairs() == pairs
    assert {(d.setup, d.base) for d in evaluated.differences if d.metric == "confidence_gap"} == set(pairs)


def test_names_of_setups_may_hold_hyphens(table):
    """(x-y, z) and (x, y-z) were one difference where pairs were named "<setup>-<base>"."""
    some = table[table.setup == "real"]
    kinds = {"z": some, "y-z": some, "x": some.assign(predicted=some.class_name), "x-y": some}
    renamed = [rows.assign(setup=name) for name, rows in kinds.items()]
    found = summarise(pd.concat(renamed), Evaluate(), None)
    assert {("x-y", "z"), ("x", "y-z")} <= set(found.pairs())
    assert found.difference("x-y", "z", "accuracy_test").mean == 0
    gain = 1 - found.setups["z"]["accuracy_test"].mean
    assert found.difference("x", "y-z", "accuracy_test").mean == pytest.approx(gain, abs=1e-6) and gain > 0


@pytest.mark.parametrize("score", ["energy", "vim"])
def test_the_headline_score_is_the_one_of_detection_metrics(table, evaluated, score):
    found = summarise(table, Evaluate(headline_score=score), None)
    for setup in found.order:
        for kind in ("near", "far"):
            headline, other = f"{kind}_ood_auroc", f"{score}/{kind}_ood_auroc"
            assert found.setups[setup][headline] == evaluated.scores[setup][other]
        assert found.setups[setup]["accuracy_test"] == evaluated.setups[setup]["accuracy_test"]
    assert found.scores == evaluated.scores
    assert found.classes["real"]["near_test"] != evaluated.classes["real"]["near_test"]
    assert found.classes["real"]["test"] == evaluated.classes["real"]["test"]


def test_knn_is_the_headline_where_nothing_else_is_said(evaluated):
    for setup in evaluated.order:
        assert evaluated.setups[setup]["far_ood_auroc"] == evaluated.scores[setup]["knn/far_ood_auroc"]


def test_scores_without_a_column_are_absent_and_say_so(table, evaluated):
    found = summarise(table.drop(columns=["vim", "energy"]), Evaluate(), None)
    assert found.absent == {
        f"{score}/{kind}_ood_auroc": f"the predictions have no column {score}"
        for score in ("energy", "vim")
        for kind in ("near", "far")
    }
    assert found.setups == evaluated.setups and found.differences == evaluated.differences
    usual = [score for score in SCORES if SCORES[score].always and score not in ("energy", "vim")]
    kept = [f"{score}/{kind}_ood_auroc" for score in usual for kind in ("near", "far")]
    assert list(found.scores["real"]) == kept


def test_without_the_headline_score_detection_is_absent_and_all_else_there(table, evaluated):
    found = summarise(table.drop(columns="knn"), Evaluate(), None)
    assert {name for name in found.absent if "/" not in name} == DETECTION
    assert found.absent["near_ood_fpr95"] == "the predictions have no column knn (evaluate.headline_score)"
    assert set(found.setups["real"]) == set(evaluated.setups["real"]) - DETECTION
    assert set(found.classes["real"]) == {"test", "shifted"}
    assert {s.metric for s in found.verdict} == {"accuracy_test", "accuracy_shifted"}
    assert {m.name for m in found.metrics}.isdisjoint(DETECTION)
