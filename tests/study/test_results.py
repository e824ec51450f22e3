"""What a study found, without trainings."""

from __future__ import annotations

import json

import optuna
from helpers import small_project

from partsynth.records.study import StudyResults
from partsynth.study.results import results
from partsynth.study.storage import open_storage


def told(root, params, trials):
    """A study without trainings: each trial is (values, state, attributes, constraints)."""
    settings = params.study
    study = optuna.create_study(
        study_name=settings.name,
        storage=open_storage(settings, root),
        directions=["maximize"] * (2 if settings.mode == "pareto" else 1),
    )
    study.set_user_attr("identity", {"setup": settings.setup, "data": {"data/real/manifest.csv": "0123"}})
    study.set_user_attr("mlflow_run_id", "parent")
    for values, state, attributes, constraints in trials:
        trial = study.ask({"temperature": optuna.distributions.FloatDistribution(0.03, 0.5)})
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        for name, value in constraints.items():
            trial.set_constraint(name, value)
        study.tell(trial, values, state)
    return results(params, root)


COMPLETE, FAIL, PRUNED = (optuna.trial.TrialState[name] for name in ("COMPLETE", "FAIL", "PRUNED"))


def test_the_best_keeps_the_limits_and_surplus_trials_do_not_count(tmp_path):
    params = small_project.study_params()
    found = told(
        tmp_path,
        params,
        [
            ([0.5], COMPLETE, {"near_ood_auroc": 0.7, "drift": None, "mlflow_run_id": "a"}, {"near_ood_auroc": -0.2}),
            ([0.9], COMPLETE, {}, {"near_ood_auroc": 0.1}),
            (None, FAIL, {"surplus": True}, {}),
            (None, PRUNED, {}, {}),
            ([0.6], COMPLETE, {"band": [0.5, 0.9]}, {"near_ood_auroc": 0.0}),
            ([0.6], COMPLETE, {}, {}),
        ],
    )
    assert found.best == 4 and found.pareto == [] and found.mode == "constrained"
    assert found.counts == {"complete": 4, "pruned": 1} and [t.number for t in found.trials] == [0, 1, 3, 4, 5]
    assert [t.feasible for t in found.trials] == [True, False, None, True, True]
    assert [(h.trial, h.best) for h in found.history] == [(0, 0.5), (1, 0.5), (4, 0.6), (5, 0.6)]


def test_the_file_has_the_keys_that_it_always_had(tmp_path):
    attributes = {"near_ood_auroc": 0.7, "drift": None, "band": [0.5, 0.9], "mlflow_run_id": "a"}
    found = told(tmp_path, small_project.study_params(), [([0.5], COMPLETE, attributes, {}), (None, FAIL, {}, {})])
    plain = found.plain()
    assert set(plain) == {
        "study",
        "setup",
        "mode",
        "limits",
        "mlflow_run_id",
        "data",
        "counts",
        "best",
        "pareto",
        "importance",
        "history",
        "trials",
    }
    every = {"number", "state", "val_accuracy", "feasible", "params", "seconds", "mlflow_run_id", "retry_of"}
    assert [set(trial) - every for trial in plain["trials"]] == [{"near_ood_auroc", "drift", "band"}, set()]
    assert every <= set(plain["trials"][1]) and plain["trials"][0]["band"] == [0.5, 0.9]
    assert plain["history"] == [{"trial": 0, "val_accuracy": 0.5, "best": 0.5}]
    assert StudyResults.model_validate(json.loads(json.dumps(plain))) == found


def test_of_a_front_the_answer_keeps_the_limit(tmp_path):
    """Equal trials are all on the front, and one that another beats is not."""
    values = [(0.9, 0.2), (0.8, 0.6), (0.8, 0.6), (0.7, 0.9), (0.7, 0.5), (0.1, 0.1)]
    params = small_project.study_params(mode="pareto", min_ood_auroc=0.5)
    found = told(tmp_path, params, [(list(pair), COMPLETE, {}, {}) for pair in values])
    assert found.pareto == [0, 1, 2, 3] and found.best == 1
    strict = small_project.study_params(mode="pareto", min_ood_auroc=1.0)
    assert results(strict, tmp_path).best == 0
