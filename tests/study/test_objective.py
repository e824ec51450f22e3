"""One trial with real training and real MLflow."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml
from helpers import small_project

from partsynth.audit.checkout import checkout_run
from partsynth.audit.image import trace_image
from partsynth.study.apply import apply
from partsynth.study.results import results
from partsynth.study.space import read_data
from partsynth.study.workers import run_study
from partsynth.tracking.query import get_run, read_artifact


def test_the_test_parts_are_never_opened(project):
    for part in ("data/real/test", "data/real/shifted", "data/ood/near/test"):
        shutil.rmtree(project / part)
    run_study(small_project.study_params(trials=1), project)
    assert results(small_project.study_params(), project).counts == {"complete": 1, "waiting": 2}


def test_limits_decide_which_trial_is_best(project):
    limits = {"trials": 3, "min_ood_auroc": 1.0, "max_drift": 0.2}
    run_study(small_project.study_params(**limits), project)
    data = results(small_project.study_params(**limits), project)
    assert [t.drift for t in data.trials] == [0, 0.25, 0.25]  # share 0.5 of pictures at percentile 0.5
    assert [t.feasible for t in data.trials][1:] == [False, False]
    assert data.best in (0, None)


def test_pareto_mode_gives_a_front(project):
    options = {"trials": 3, "mode": "pareto", "setup": "real_id"}
    run_study(small_project.study_params(**options), project)
    data = results(small_project.study_params(**options), project)
    assert data.pareto and data.best in data.pareto and data.counts == {"complete": 3}
    assert "negatives_per_anchor" not in data.trials[0].params


def test_a_trial_with_its_own_band_keeps_its_table(project, tmp_path):
    options = {"rule": "band", "trials": 4}
    run_study(small_project.study_params(**options), project)
    data = results(small_project.study_params(**options), project)
    assert all(t.band[0] < t.band[1] <= 1 for t in data.trials)
    params, select = small_project.study_params(**options), "real_id_negatives"
    near = params.select | {select: params.select[select].model_copy(update={"rule": "nobody"})}
    assert read_data(params.model_copy(update={"select": near}), project).band == read_data(params, project).band
    trial = data.trials[3]
    run = get_run(project, trial.mlflow_run_id)
    table = next(item for item in run.inputs if item.name.startswith("selected"))
    assert table.path == "lineage/selected.csv" and read_artifact(project, run.run_id, table.path)
    result = checkout_run(project, run.run_id, tmp_path / "out")
    assert result.faults == [] and (tmp_path / "out/lineage/selected.csv").is_file()
    assert trace_image(project, "data/real/train/gear_a/00.png").faults == []
    preset = apply(small_project.study_params(**options), project, Path("tuned.yaml"), trial=3)
    assert yaml.safe_load(preset.read_text())["select"]["real_id_negatives"]["band"] == list(trial.band)
