"""benchmarks/tune_real.py: photographs alone get as many trials as photographs with edits; it goes on where it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import tune_real
import upper_bound
import yaml
from helpers.shapes import TINY, make_project

from partsynth.errors import UserError

OWN = {"crop": 0.6, "jitter": 1.0, "synthetic_share": 0.15}


def test_setups_get_the_same_views_and_the_share_varies_where_there_are_edits() -> None:
    real, edits = tune_real.points(9, OWN, False), tune_real.points(9, OWN, True)
    assert real[0] == edits[0] == OWN and len(real) == len(edits) == 9
    views = [[(values["crop"], values["jitter"]) for values in found] for found in (real, edits)]
    assert views[0] == views[1] and len(set(views[0])) == 9
    assert {values["synthetic_share"] for values in real} == {0.15}
    assert len({values["synthetic_share"] for values in edits}) > 5
    for values in edits[1:]:
        assert 0.2 <= values["crop"] <= 1 and 0 <= values["jitter"] <= 2 and 0.05 <= values["synthetic_share"] <= 0.5
    assert tune_real.points(4, OWN, True) == edits[:4]  # more trials keep the earlier ones


def test_the_best_trial_and_of_equals_the_first() -> None:
    assert tune_real.best([0.5, 0.7, 0.6]) == 1 and tune_real.best([0.7, 0.5, 0.7]) == 0


@pytest.fixture
def project(tmp_path: Path) -> Path:
    make_project(tmp_path)
    params = {
        "ingest": {"source": "folder", "path": "photos", "masks": "none"},
        "sets": {"id": {"strength": 0.2}},
        "select": {"real": {"role": "positive", "rule": "all"}, "real_id": {"role": "positive"}},
        "matrix": {"setups": ["real", "real_id"], "seeds": [3]},
        "train": TINY.model_dump(mode="json"),
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    return tmp_path


def test_a_second_start_trains_nothing_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tune_real.tune([project], "real_id", 2, 4)
    assert found["synthetic"] and [row["crop"] for row in found["trials"]] == [0.6, 0.6]
    assert found["trials"][1]["jitter"] != 1 and found["chosen"] in (0, 1)
    assert all(0 <= row["val_accuracy"] <= 1 for row in found["trials"])
    monkeypatch.setattr("partsynth.training.fit.fit", None)
    assert tune_real.tune([project], "real_id", 2, 4) == found


def test_the_renders_of_the_benchmark_are_refused(project: Path) -> None:
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text()) | {"ingest": {"source": "rendered"}}
    path.write_text(yaml.safe_dump(params))
    with pytest.raises(UserError, match=r"render\.roles is benchmark"):
        tune_real.read(project, "real", 0)
    path.write_text(yaml.safe_dump(params | {"render": {"roles": "development"}}))
    assert tune_real.read(project, "real", 7)[0].train.steps == 7
    with pytest.raises(UserError, match="select has no 'other'"):
        tune_real.read(project, "other", 0)


def test_the_page_marks_what_was_chosen() -> None:
    trials = [{**OWN, "val_accuracy": 0.7}, {**OWN, "crop": 0.4, "val_accuracy": 0.75}]
    figures = {"val_accuracy": 0.7, "accuracy_test": 0.69, "accuracy_shifted": 0.41}
    setups = [
        {"setup": "real", "synthetic": False, "trials": trials, "chosen": 1, "again": {"own": figures}},
        {"setup": "real_id", "synthetic": True, "trials": trials, "chosen": 0},
    ]
    found = {"command": "x", "git_commit": "abc", "projects": 2, "steps": 800, "again": 1, "setups": setups}
    text = tune_real.page(found)
    assert "| 1 | 0.4 | 1 | **75.0** |" in text and "| 0 | 0.6 | 1 | 0.15 | **70.0** |" in text
    assert "| own | 70.0 | 69.0 | 41.0 |" in text
    assert upper_bound.WORK != tune_real.WORK
