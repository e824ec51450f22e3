"""Studies with real training, real MLflow and real storage; workers that are killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import optuna
import pytest
import yaml
from helpers import small_project
from helpers.studies import check_agreement, start, trial_of_a_worker

from partsynth.errors import UserError
from partsynth.store.files import read_json
from partsynth.study.apply import apply
from partsynth.study.present import show
from partsynth.study.results import results
from partsynth.study.workers import run_study
from partsynth.tracking.query import get_run
from partsynth.tracking.store import STUDIES

CARD = "data/selected/real_id_negatives.csv"


def test_a_study_whose_trials_are_all_pruned_ends(project, monkeypatch):
    """Ranges in which every loss becomes no number, say."""

    def pruned(*_):
        raise optuna.TrialPruned

    monkeypatch.setattr("partsynth.study.workers.Objective.__call__", pruned)
    monkeypatch.setattr("partsynth.study.workers.PRUNED", 4)
    params = small_project.study_params(trials=2)
    with pytest.raises(UserError, match="the last 4 trials were all pruned, and 0 of 2 are complete"):
        run_study(params, project)
    with pytest.raises(UserError, match="the last 4 trials were all pruned"):  # it does not begin again
        run_study(params, project)


def test_a_study_of_something_else_is_left_alone(project):
    params = small_project.study_params(trials=2)
    (project / ".work").mkdir(exist_ok=True)
    backend = optuna.storages.journal.JournalFileBackend(str(project / params.study.storage))
    storage = optuna.storages.JournalStorage(backend)
    theirs = optuna.create_study(study_name=params.study.name, storage=storage)
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(UserError, match=r"holds trials of something other than partsynth: set study\.name"):
        run_study(params, project)
    assert len(optuna.load_study(study_name=params.study.name, storage=storage).trials) == 1


def test_a_study_runs_is_shown_applied_and_gone_on_with(project, capsys):
    params = small_project.study_params(trials=4)
    run_study(params, project)
    data = check_agreement(project, {}, 4)
    assert [t.number for t in data.trials] == [0, 1, 2, 3]
    shares = [t.params["synthetic_share"] for t in data.trials[:3]]
    negatives = [t.params["negatives_per_anchor"] for t in data.trials[:3]]
    assert shares == [0, 0.5, 0.5] and negatives == [0, 0, 0.5]  # the three setups' mixes come first
    run = get_run(project, data.trials[3].mlflow_run_id)
    digests = {item.path: item.digest for item in run.inputs}
    assert {"data/real", "data/ood", "data/augmented/id", "data/augmented/near_ood", "models/tokens", CARD} <= set(
        digests
    )
    assert all(digests.values()) and run.experiment == STUDIES

    more = small_project.study_params(trials=5)
    run_study(more, project)
    assert len(check_agreement(project, {}, 5).trials) == 5
    drawn = {t.params["temperature"] for t in results(more, project).trials[3:]}
    assert len(drawn) == 2  # a second start draws other points
    run_study(more, project)  # nothing left to do
    assert len(results(more, project).trials) == 5

    capsys.readouterr()
    show(more, project)
    told = capsys.readouterr().out
    assert "5 complete" in told and "best: trial" in told and "temperature" in told
    written = read_json(project / "reports/studies/partsynth.json")
    assert written["best"] is not None and len(written["history"]) == 5

    before = (project / "params.yaml").read_bytes()
    with pytest.raises(UserError, match=r"never writes params.yaml"):
        apply(more, project, Path("params.yaml"))
    preset = apply(more, project, Path("presets/tuned.yaml"), trial=3)
    assert (project / "params.yaml").read_bytes() == before
    tuned = yaml.safe_load(preset.read_text())
    third = written["trials"][3]["params"]
    assert tuned["train"]["temperature"] == third["temperature"]
    assert tuned["train"]["negatives"] == round(third["negatives_per_anchor"] * 8)
    assert {k: v for k, v in tuned.items() if k != "train"} == {
        k: v for k, v in yaml.safe_load(before).items() if k != "train"
    }
    with pytest.raises(UserError, match=r"exists"):
        apply(more, project, Path("presets/tuned.yaml"))
    with pytest.raises(UserError, match=r"trial 77 is not complete"):
        apply(more, project, Path("presets/other.yaml"), trial=77)

    for change in ({"mode": "pareto"}, {"min_ood_auroc": 0.9}, {"setup": "real_id"}):
        with pytest.raises((UserError, ValueError), match=r"begun with other values|other than"):
            run_study(small_project.study_params(trials=6, **change), project)


def test_faults_of_a_user_are_sentences(project, monkeypatch):
    with pytest.raises(UserError, match=r"no study yet"):
        show(small_project.study_params(), project)
    with pytest.raises(UserError, match=r"study.setup is 'nobody'; select has real"):
        run_study(small_project.study_params(setup="nobody"), project)
    closed = "postgresql://someone:secret@127.0.0.1:1/none"
    with pytest.raises(UserError, match=r"cannot open study.storage") as error:
        run_study(small_project.study_params(storage=closed), project)
    assert "secret" not in str(error.value) and "someone:***" in str(error.value)
    with monkeypatch.context() as patched:
        patched.setattr("partsynth.training.fit.fit", lambda *a, **k: 1 / 0)
        with pytest.raises(UserError, match=r"3 trials failed one after another, the last with ZeroDivisionError"):
            run_study(small_project.study_params(), project)
    run_study(small_project.study_params(), project)  # their parameters were put back
    check_agreement(project, {}, 4)


@pytest.mark.parametrize(("number", "wrapped"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_an_interrupt_of_one_that_works_alone_loses_nothing(project, monkeypatch, number, wrapped):
    """Not even where a library turned it into an error."""

    def interrupted(*_, **__):
        try:
            os.kill(os.getpid(), number)
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt as stop:
            if not wrapped:
                raise
            raise RuntimeError("the callback failed") from stop

    with monkeypatch.context() as patched:
        patched.setattr("partsynth.training.fit.fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_study(small_project.study_params(), project)
    first, *others = results(small_project.study_params(), project).trials
    states = [first.state, *(t.state for t in others)]
    assert states.count("FAIL") == 1 and "WAITING" in states and "RUNNING" not in states
    run_study(small_project.study_params(), project)
    data = check_agreement(project, {}, 4)
    assert [t.params for t in data.trials if t.retry_of == first.number] == [first.params]


# --- killed and interrupted -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_worker_s_trial_is_done_by_another_on_a_journal(project):
    options = {"trials": 6, "steps": 40}
    process = start(project, 2, **options)
    pid, trial = trial_of_a_worker(process, project, options)
    os.kill(pid, signal.SIGKILL)
    told, _ = process.communicate(timeout=900)
    assert process.returncode == 0, told
    data = check_agreement(project, options, 6)
    again = [t for t in data.trials if t.retry_of == trial.number]
    assert len(again) == 1 and again[0].params == trial.params and again[0].state == "COMPLETE"
    dead = get_run(project, trial.user_attrs["mlflow_run_id"])
    assert dead.status == "KILLED" and dead.tags["superseded_by"] == again[0].mlflow_run_id


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_was_on_a_journal(project):
    options = {"trials": 4, "steps": 40}
    process = start(project, 1, **options)
    _, trial = trial_of_a_worker(process, project, options, number=1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run_study(small_project.study_params(**options), project)
    data = check_agreement(project, options, 4)
    assert [t.params for t in data.trials if t.retry_of == 1] == [trial.params]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "whom"), [(signal.SIGINT, "all"), (signal.SIGTERM, "one")])
def test_an_interrupt_of_two_workers_loses_nothing(project, number, whom):
    """Ctrl-C reaches all processes of a terminal, SIGTERM only the one that was started."""
    options = {"trials": 4, "steps": 40}
    process = start(project, 2, **options)
    _, trial = trial_of_a_worker(process, project, options, number=1)
    (os.killpg if whom == "all" else os.kill)(process.pid, number)
    told, _ = process.communicate(timeout=900)
    assert process.returncode != 0, told
    states = [t.state for t in results(small_project.study_params(**options), project).trials]
    assert "RUNNING" not in states and "WAITING" in states, told
    run_study(small_project.study_params(**options), project)
    data = check_agreement(project, options, 4)
    assert [t.params for t in data.trials if t.retry_of == 1] == [trial.params]


@pytest.mark.slow
def test_three_workers_on_postgresql_one_of_them_killed(project, postgres):
    options = {"trials": 8, "steps": 40, "storage": postgres}
    process = start(project, 3, **options)
    pid, trial = trial_of_a_worker(process, project, options)
    os.kill(pid, signal.SIGKILL)
    told, _ = process.communicate(timeout=900)
    assert process.returncode == 0, told
    assert "was killed by signal 9" in told
    data = check_agreement(project, options, 8)
    again = [t for t in data.trials if t.retry_of == trial.number]
    assert [t.params for t in again] == [trial.params]
    assert get_run(project, trial.user_attrs["mlflow_run_id"]).status == "KILLED"


@pytest.mark.slow
def test_a_silent_worker_s_trial_is_given_to_another_by_heartbeat(project, postgres, monkeypatch):
    """As of another machine: its process cannot be looked at, only its heartbeat stops."""
    options = {"trials": 2, "steps": 40, "storage": postgres}
    process = start(project, 1, **options)
    _, trial = trial_of_a_worker(process, project, options)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    monkeypatch.setattr("partsynth.store.process.is_dead", lambda name: False)
    run_study(small_project.study_params(**options), project)
    data = results(small_project.study_params(**options), project)
    assert data.counts["complete"] == 2
    assert [t.params for t in data.trials if t.retry_of == trial.number] == [trial.params]
