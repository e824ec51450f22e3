"""Titles, and where a metric is shown: also of metrics and scores from outside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from partsynth.evaluation.metrics import Metric
from partsynth.evaluation.results import Interval, MetricTitle, Summary
from partsynth.reporting.format import arrow, curve_title, metrics_in, part_title, reasons, score_title
from partsynth.reporting.text import render_table
from partsynth.seams import METRICS

TITLES = {"accuracy_test": True, "accuracy_generated_id": None, "of_a_plugin": False, "gone": None}
SUMMARY = Summary(
    setups={"real": {name: Interval(mean=0.5, values=[0.5]) for name in TITLES}},
    differences=[],
    scores={},
    classes={},
    absent={},
    seeds={"real": [0]},
    order=["real"],
    metrics=[MetricTitle(name=name, title=f"title of {name}", more_is_better=more) for name, more in TITLES.items()],
    confidence=0.95,
    verdict=[],
)


@pytest.fixture
def plugin() -> Iterator[None]:
    METRICS.register(
        "of_a_plugin", Metric("of_a_plugin", "plugin's", False, lambda run: 0.5, shown=("main", "terminal"))
    )
    yield
    METRICS.unregister("of_a_plugin")


def names(place: str) -> list[str]:
    return [metric.name for metric in metrics_in(SUMMARY, place)]  # type: ignore[arg-type]


def test_a_metric_is_shown_where_its_row_says(plugin: None) -> None:
    assert names("main") == names("terminal") == ["accuracy_test", "of_a_plugin"]
    assert names("generated") == ["accuracy_generated_id"]
    assert names("more") == ["gone"]  # measured by a plugin that is not there now
    assert names("headline") == ["accuracy_test"]


def test_all_metrics_are_in_the_plain_table(plugin: None) -> None:
    text = render_table(SUMMARY)
    assert all(f"title of {name}" in text for name in TITLES)


def test_reasons_name_metrics_by_their_titles() -> None:
    absent = {"near_ood_auroc": "a", "accuracy_shifted": "b", "knn/far_ood_auroc": "b", "unknown": "a"}
    assert reasons(absent) == {
        "a": ["near-OOD AUROC", "unknown"],
        "b": ["accuracy, shifted", "far-OOD AUROC by kNN distance"],
    }


def test_titles() -> None:
    assert part_title("near_test") == "near-OOD, test" and part_title("set_id") == "augmentation set id"
    assert score_title("knn") == "kNN distance" and score_title("mine") == "mine"
    assert curve_title("val_accuracy_knn") == "kNN accuracy, validation" and curve_title("loss_x") == "loss x"
    assert [arrow(MetricTitle(name="a", title="b", more_is_better=more)) for more in (True, False, None)] == [
        " ↑",
        " ↓",
        "",
    ]
