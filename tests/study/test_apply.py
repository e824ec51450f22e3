"""A trial's parameters as a preset."""

from __future__ import annotations

from pathlib import Path

import yaml
from helpers import small_project

from partsynth.config.training import SelectSetup, TrainChanges
from partsynth.study import space
from partsynth.study.apply import apply
from partsynth.study.workers import run_study


def test_a_study_starts_from_its_setups_own_training(project):
    own = {"synthetic_share": 0.4, "temperature": 0.2}
    small_project.set_params(project, "select.real_id_negatives", train=own)
    params = small_project.study_params(trials=1)
    setup = SelectSetup(role="negative", train=TrainChanges(**own))
    params = params.model_copy(update={"select": params.select | {"real_id_negatives": setup}})
    first = space.baselines(params, space.read_data(params, project))
    assert [p["synthetic_share"] for p in first] == [0, 0.4, 0.4] and {p["temperature"] for p in first} == {0.2}
    assert space.settings(params, {})[0] == params.train.model_copy(update=own)
    run_study(params, project)
    preset = yaml.safe_load(apply(params, project, Path("tuned.yaml"), trial=0).read_text())
    assert preset["select"]["real_id_negatives"]["train"] == {"synthetic_share": 0.0, "temperature": 0.2}
    assert preset["train"]["negatives"] == 0 and "synthetic_share" not in preset["train"]
