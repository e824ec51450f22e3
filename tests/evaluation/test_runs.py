"""Which models and images an evaluation looks at."""

from __future__ import annotations

from pathlib import Path

import pytest

from partsynth.config.training import Matrix
from partsynth.errors import UserError
from partsynth.evaluation.runs import describe, model_runs, read_parts, read_selected

PARTS = ["train", "val", "test", "shifted", "near_val", "near_test", "far_val", "far_test"]


@pytest.fixture(autouse=True)
def _in_project(evaluated_project, monkeypatch):
    monkeypatch.chdir(evaluated_project[0].root)


def test_models_come_in_the_order_of_the_matrix():
    found = model_runs(Path("models/supcon"), Matrix(setups=["real_id", "real"], seeds=[1, 0]))
    assert [(run.setup, run.seed) for run in found] == [("real_id", 1), ("real_id", 0), ("real", 1), ("real", 0)]


def test_all_missing_models_are_named_at_once():
    folders = "models/supcon/real/7, models/supcon/gone/0, models/supcon/gone/7"
    with pytest.raises(UserError, match=rf"real/7/config\.json is missing\) in {folders}: run the"):
        model_runs(Path("models/supcon"), Matrix(setups=["real", "gone"], seeds=[0, 7]))
    with pytest.raises(UserError, match="nothing to evaluate"):
        model_runs(Path("models/supcon"), Matrix(setups=[], seeds=[0]))


def test_parts_come_in_one_order_and_none_is_empty():
    found = read_parts(Path("data/real"), Path("data/ood"), Path("data/augmented"))
    assert list(found) == [*PARTS, "set_far_ood", "set_id", "set_near_ood"]
    assert all(found.values())
    assert {row.role for row in found["near_test"]} == {"near_ood"}
    assert "near_test" not in read_parts(Path("data/real"), Path("data/none"), Path("data/augmented"))


def test_without_test_images_there_is_nothing_to_evaluate(tmp_path):
    lines = Path("data/real/manifest.csv").read_text().splitlines()
    column = lines[0].split(",").index("split")
    kept = [line for line in lines if line.split(",")[column] != "test"]
    (tmp_path / "manifest.csv").write_text("\n".join(kept) + "\n")
    with pytest.raises(UserError, match=r"manifest\.csv has no image in test"):
        read_parts(tmp_path, Path("data/ood"), Path("data/augmented"))


def test_data_are_described_by_what_is_there():
    parts = read_parts(Path("data/real"), Path("data/ood"), Path("data/augmented"))
    selected = read_selected(Path("data/selected"), ["real", "real_id", "gone"])
    found = describe(parts, selected, [Path("data/real/manifest.csv"), Path("data/none.csv")])
    assert list(found.manifests) == ["data/real/manifest.csv"]
    assert found.training == {"real": {"real positive": 24}, "real_id": {"real positive": 24, "id positive": 48}}
    assert (found.parts["set_id"].pictures, found.parts["set_id"].groups) == (48, 12)
