"""Where trials are kept, and how dead workers' trials are given to others."""

from __future__ import annotations

import copy
import os
import platform
import re
import warnings
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partsynth.config.study import Study
from partsynth.errors import UserError

if TYPE_CHECKING:
    pass

STARTING = 60.0  # seconds within which a worker has put its name to a trial it took
RETRIES = 3  # attempts at a trial beyond the first


def worker_name() -> str:
    """host:pid:start of the process, which no later process shares."""
    import psutil

    return f"{platform.node()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def _is_dead(worker: str) -> bool:
    """Whether a worker of this host is gone; of other hosts nothing is known."""
    import psutil

    host, pid, started = worker.rsplit(":", 2)
    if host != platform.node():
        return False
    try:
        process = psutil.Process(int(pid))
        # a killed worker stays a zombie until its parent looks
        return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - float(started)) > 1
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def shown(url: str) -> str:
    """A storage address without its password."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", url)


def open_storage(study: Study, root: Path) -> Any:
    """A journal file (any number of processes of one host), or an RDB with heartbeats (any number of hosts)."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    if "://" not in study.storage:
        path = root / study.storage
        path.parent.mkdir(parents=True, exist_ok=True)
        backend = optuna.storages.journal.JournalFileBackend(str(path))
        return optuna.storages.JournalStorage(backend)
    url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", study.storage)  # the driver that is installed
    try:
        return optuna.storages.RDBStorage(
            url,
            heartbeat_interval=study.heartbeat,
            grace_period=3 * study.heartbeat,
            heartbeat_stale_trial_callback=retry,
            engine_kwargs={"pool_pre_ping": True},
        )
    except (SQLAlchemyError, ImportError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"cannot open study.storage {shown(study.storage)}: {shown(first)}") from None


def retry(study: Any, trial: Any) -> None:
    """Queue a dead attempt's parameters again. Of its attributes the new one keeps the MLflow run alone: with the dead
    worker's name on it, it would be taken for dead as well."""
    import optuna

    again = copy.deepcopy(trial)
    again.user_attrs = {k: v for k, v in trial.user_attrs.items() if k == "mlflow_run_id"}
    optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)(study, again)


def load_study(params: Study, root: Path) -> Any:
    """An existing study, for reading.

    Raises
    ------
    UserError
        where the storage has none of this name.
    """
    import optuna

    if "://" not in params.storage and not (root / params.storage).is_file():
        raise UserError(f"there is no study yet: {root / params.storage} is missing (partsynth study run)")
    storage = open_storage(params, root)
    try:
        return optuna.load_study(study_name=params.name, storage=storage)
    except KeyError:
        known = ", ".join(sorted(s.study_name for s in optuna.get_all_study_summaries(storage))) or "none"
        raise UserError(f"no study {params.name!r} in {shown(params.storage)}; it has {known}") from None


def revive(study: Any, heartbeats: bool) -> None:
    """Give the trials of dead workers to others: this host's by their process, an RDB's by their heartbeat."""
    import optuna

    optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if worker := trial.user_attrs.get("worker"):
            dead = _is_dead(worker)
        else:  # killed between taking the trial and putting its name to it; an RDB's heartbeat tells
            dead = not heartbeats and datetime.now() - trial.datetime_start > timedelta(seconds=STARTING)
        if dead and fail_trial(study, trial) and not trial.user_attrs.get("surplus"):
            retry(study, trial)


def fail_trial(study: Any, trial: Any) -> bool:
    """Mark a trial FAIL; False where another worker did so first."""
    import optuna

    try:
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        return False
    return True
