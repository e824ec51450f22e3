"""Every figure as plain text."""

from __future__ import annotations

from partsynth.evaluation.results import BenchmarkSummary, Difference, Interval, MetricTitle
from partsynth.reporting.text import render_table

TEXT = """
                    real                 real_id
acc    50.0 [40.0, 60.0]                    60.0

real_id minus real (points)
  acc  +10.0 [−1.0, 0.0]

Not measured, because there is none: far-OOD AUROC.
""".strip("\n")


def summary() -> BenchmarkSummary:
    real, more = Interval(mean=0.5, low=0.4, high=0.6, values=[0.5]), Interval(mean=0.6, values=[0.6])
    return BenchmarkSummary(
        setups={"real": {"a": real}, "real_id": {"a": more}},
        differences=[Difference(setup="real_id", base="real", metric="a", mean=0.1, low=-0.01, high=0.0, values=[0.1])],
        scores={},
        classes={},
        absent={"far_ood_auroc": "there is none"},
        seeds={"real": [0], "real_id": [0]},
        order=["real", "real_id"],
        metrics=[MetricTitle(name="a", title="acc")],
        confidence=0.95,
        verdict=[],
    )


def test_table_differences_and_what_is_absent() -> None:
    words = [line.split() for line in TEXT.splitlines() if line]
    assert [line.split() for line in render_table(summary()).splitlines() if line] == words


def test_columns_stand_below_each_other() -> None:
    head, row = render_table(summary()).splitlines()[:2]
    assert len(head) == len(row) and head.endswith("real_id") and row.endswith("60.0")
    assert row.index("50.0 [40.0, 60.0]") + len("50.0 [40.0, 60.0]") == head.index("real") + len("real")


def test_few_shots_follow() -> None:
    few = summary().model_copy(update={"few_shot": {"4": summary()}})
    assert "\n4 training images per class\n" in render_table(few)
