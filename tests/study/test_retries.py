"""Trials of workers that are gone."""

from __future__ import annotations

import optuna
from helpers import small_project

from partsynth.store.process import identity
from partsynth.study.retries import original, put_back, revive
from partsynth.study.storage import open_storage


def test_a_trial_of_a_process_that_is_gone_is_tried_again(tmp_path):
    settings = small_project.study_params().study
    study = optuna.create_study(study_name=settings.name, storage=open_storage(settings, tmp_path))
    space = {"temperature": optuna.distributions.FloatDistribution(0.03, 0.5)}
    alive, dead, surplus = (study.ask(space) for _ in range(3))
    host, pid, begun = identity().rsplit(":", 2)
    for trial, worker in ((alive, identity()), (dead, f"{host}:{pid}:{int(begun) - 60}")):
        trial.set_user_attr("worker", worker)
        trial.set_user_attr("mlflow_run_id", f"run of {trial.number}")
    surplus.set_user_attr("worker", f"{host}:{pid}:1")
    surplus.set_user_attr("surplus", True)
    nameless = study.ask(space)  # its worker may be about to put its name to it
    revive(study, heartbeats=False)
    states = {t.number: t.state.name for t in study.get_trials()}
    assert states == {
        alive.number: "RUNNING",
        dead.number: "FAIL",
        surplus.number: "FAIL",
        nameless.number: "RUNNING",
        4: "WAITING",
    }
    again = study.ask()
    assert again.number == 4 and original(study.get_trials()[4]) == dead.number
    assert study.get_trials()[4].user_attrs == {"mlflow_run_id": f"run of {dead.number}"}
    put_back(study)  # what this process gave up
    assert study.get_trials()[alive.number].state.name == "FAIL"
    assert original(study.get_trials()[5]) == alive.number
