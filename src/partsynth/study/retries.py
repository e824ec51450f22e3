"""Trials that a worker did not end: their parameters are tried again, by it or by others."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta

import optuna
from optuna.trial import FrozenTrial, TrialState

from partsynth.store import process

STARTING = 60.0  # seconds within which a worker has put its name to a trial it took
RETRIES = 3  # attempts at a trial beyond the first


def original(trial: FrozenTrial) -> int | None:
    """The number of the trial whose parameters this one tries again."""
    return optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)


def retry(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue a dead attempt's parameters again. Of its attributes the new one keeps the MLflow run alone: with the dead
    worker's name on it, it would be taken for dead as well."""
    again = copy.deepcopy(trial)
    again.user_attrs = {k: v for k, v in trial.user_attrs.items() if k == "mlflow_run_id"}
    optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)(study, again)


def revive(study: optuna.Study, heartbeats: bool) -> None:
    """Give the trials of dead workers to others: this host's by their process, an RDB's by their heartbeat."""
    optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if worker := trial.user_attrs.get("worker"):
            dead = process.is_dead(worker)
        else:  # killed between taking the trial and putting its name to it; an RDB's heartbeat tells
            begun = trial.datetime_start
            dead = not heartbeats and begun is not None and datetime.now() - begun > timedelta(seconds=STARTING)
        if dead and _fail(study, trial) and not trial.user_attrs.get("surplus"):
            retry(study, trial)


def put_back(study: optuna.Study) -> None:
    """Queue the parameters of the trial that this process gave up again; it is FAIL by now, or is made so."""
    mine = process.identity()
    for trial in reversed(study.get_trials(deepcopy=False)):
        if trial.user_attrs.get("worker") == mine:
            if trial.state == TrialState.RUNNING and not _fail(study, trial):
                return
            if trial.state in (TrialState.RUNNING, TrialState.FAIL) and not trial.user_attrs.get("surplus"):
                retry(study, trial)
            return


def _fail(study: optuna.Study, trial: FrozenTrial) -> bool:
    """Mark a trial FAIL; False where another worker did so first."""
    try:
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        return False
    return True
