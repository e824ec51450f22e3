"""The registry of metrics."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from partsynth.evaluation.metrics import MEMBERS, Run, generated, metrics
from partsynth.seams import METRICS

COLUMNS = {"class_name": ["a", "b"], "predicted": ["a", "a"], "knn_predicted": ["a", "b"], "confidence": [0.9, 0.6]}


def table(**scores):
    return pd.DataFrame(COLUMNS | scores)


def run(*parts, score="knn"):
    return Run({part: table(knn=[0.1, 0.2], energy=[3.0, 1.0]) for part in parts}, score, 0.95)


def test_rows_stand_under_their_names_in_the_tables_order():
    assert list(METRICS) == list(MEMBERS) == [metric.name for metric in metrics()]
    assert len({metric.title for metric in metrics()}) == len(MEMBERS)


def test_places_are_what_reports_show():
    def names(place):
        return [metric.name for metric in metrics(place)]

    assert names("headline") == ["accuracy_test", "accuracy_shifted", "near_ood_auroc", "far_ood_auroc"]
    assert names("card") == [
        "accuracy_test",
        "accuracy_shifted",
        "near_ood_auroc",
        "near_ood_fpr95",
        "far_ood_auroc",
        "far_ood_fpr95",
    ]
    assert names("terminal") == names("benchmark")
    assert set(names("main")).isdisjoint(names("more")) and len(names("main") + names("more")) == len(MEMBERS)


def test_a_metric_says_why_it_is_missing():
    assert METRICS["accuracy_test"].missing(run("test")) is None
    assert "no shifted split" in METRICS["accuracy_shifted"].missing(run("test"))
    assert "ood.holdout_classes" in METRICS["near_ood_auroc"].missing(run("test"))
    assert METRICS["near_ood_auroc"].missing(run("test", "near_test")) is None
    gone = METRICS["near_ood_auroc"].missing(run("test", "near_test", score="gone"))
    assert gone == "the predictions have no column gone (evaluate.headline_score)"
    assert METRICS["accuracy_test"].missing(run("test", score="gone")) is None
    other = replace(METRICS["accuracy_test"], needs=("night",))
    assert other.missing(run("test")) == "there are no predictions of the part night"


def test_detection_is_by_the_headline_score():
    parts = {"test": table(knn=[0.0, 1.0], energy=[2.0, 3.0]), "near_test": table(knn=[2.0, 3.0], energy=[0.0, 1.0])}
    assert METRICS["near_ood_auroc"].compute(Run(parts, "knn", 0.95)) == 1
    assert METRICS["near_ood_auroc"].compute(Run(parts, "energy", 0.95)) == 0
    assert METRICS["near_ood_fpr95"].compute(Run(parts, "energy", 0.95)) == 1


@pytest.mark.parametrize("name", [name for name, metric in MEMBERS.items() if metric.per_image])
def test_images_of_each_side_average_to_the_metric(name):
    every = run("test", "shifted", "near_test", "far_test")
    for about in METRICS[name].per_image:
        assert about.values(every).mean() == pytest.approx(METRICS[name].compute(every))
        assert len(about.values(every)) == len(every[about.part])


def test_each_augmentation_set_has_metrics_of_its_own():
    found = list(generated(run("test", "set_id").parts))
    assert [metric.name for metric in found] == ["accuracy_generated_id", "confidence_generated_id"]
    assert [metric.compute(run("set_id")) for metric in found] == [0.5, pytest.approx(0.75)]


def test_names_are_taken_once():
    with pytest.raises(ValueError, match="there is a metric 'accuracy_test' already"):
        METRICS.register("accuracy_test", METRICS["ece_test"])
    with pytest.raises(ValueError, match="metric of the package"):
        METRICS.unregister("accuracy_test")
