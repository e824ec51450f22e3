"""What differs between two runs."""

from __future__ import annotations

from helpers.audits import runs_named

from partsynth.audit.diff import compare_tables, diff_runs
from partsynth.audit.tables import TrainedImage


def test_what_differs_between_two_runs(changed):
    first, second = runs_named(changed, "real_id-seed0")
    data = diff_runs(changed, first.run_id, second.run_id).data
    assert data["parameters"] == {"sets.id.strength": {"first": 0.2, "second": 0.3}}
    assert len(data["training_pictures"]["changed"]) == 16
    assert not data["training_pictures"]["only_in_first"] and not data["training_pictures"]["only_in_second"]
    assert len(data["files"]["data/augmented/id"]["changed"]) == 17  # and the manifest
    assert sorted(data["files"]) == [
        "data/augmented/id",
        "data/quality/id.csv",
        "data/selected/real_id.csv",
        "data/strengths/id.json",
    ]
    assert data["code"]["git_dirty"] == {"first": "false", "second": "true"}
    assert data["code"]["dependencies changed"] == []


def test_a_photograph_that_is_a_negative_too_differs_by_its_role():
    positive = TrainedImage(path="a.png", sha256="1", class_name="a", role="positive", origin="real")
    control = (positive, positive._replace(role="negative"))
    found = compare_tables((positive,), control)
    assert (found["first"], found["second"], found["other_role"], found["changed"]) == (1, 2, ["a.png"], [])
    assert not compare_tables(control, control)["other_role"]
