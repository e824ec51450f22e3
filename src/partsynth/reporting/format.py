"""What figures are called and where they are shown, for pages, terminal and Markdown; numbers: evaluation.format."""

from __future__ import annotations

from collections.abc import Mapping

from partsynth.evaluation.metrics import Place
from partsynth.evaluation.results import MetricTitle, Summary
from partsynth.seams import METRICS, SCORES

PARTS = {
    "train": "training",
    "val": "validation",
    "test": "test",
    "shifted": "shifted (other wear, light, angles)",
    "near_val": "near-OOD, validation",
    "near_test": "near-OOD, test",
    "far_val": "far-OOD, validation",
    "far_test": "far-OOD, test",
}
CURVES = {"val_accuracy": "accuracy, validation", "val_accuracy_knn": "kNN accuracy, validation"}


def part_title(part: str) -> str:
    """Of a part of the evaluation: a split, or an augmentation set ("set_<name>")."""
    return PARTS.get(part, f"augmentation set {part.removeprefix('set_')}")


def curve_title(column: str) -> str:
    """Of a column of a training's history."""
    return CURVES.get(column, column.replace("_", " "))


def arrow(metric: MetricTitle) -> str:
    """What is better: more, less, or neither by itself."""
    return "" if metric.more_is_better is None else " ↑" if metric.more_is_better else " ↓"


def metrics_in(summary: Summary, place: Place) -> list[MetricTitle]:
    """What the summary has of the metrics that are shown in a place. Those of a plugin that is gone are ``more``."""
    return [metric for metric in summary.metrics if place in _places(metric.name)]


def _places(name: str) -> tuple[str, ...]:
    if name in METRICS:
        return METRICS[name].shown
    return ("generated",) if "_generated_" in name else ("more",)


def reasons(absent: Mapping[str, str]) -> dict[str, list[str]]:
    """Metric -> why it is absent, turned round: reason -> the metrics' titles."""
    found: dict[str, list[str]] = {}
    for name, reason in absent.items():
        found.setdefault(reason, []).append(_title(name))
    return found


def _title(name: str) -> str:
    """Of a metric, or of an AUROC by one score ("<score>/<metric>")."""
    score, slash, metric = name.rpartition("/")
    title = METRICS[metric].title if metric in METRICS else metric
    return f"{title} by {score_title(score)}" if slash else title


def score_title(name: str) -> str:
    return SCORES[name].title if name in SCORES else name
