"""The project's MLflow store: where it is, made whole, one experiment for trainings and one for studies."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import warnings
from pathlib import Path
from typing import Any

from partsynth.errors import UserError
from partsynth.lineage import git as lineage_git
from partsynth.tracking.relocate import follow

EXPERIMENT = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "partsynth"  # of training runs
STUDIES = "partsynth-studies"  # the experiment of studies and their trials
MODEL = "partsynth"  # name in the model registry
LIVE = ("FINISHED", "RUNNING")
PARENT = "mlflow.parentRunId"


def tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI where set, else the SQLite file at the home of ``root`` (absolute: stages, experiments in
    temporary copies and the UI must meet in one store)."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{lineage_git.home(root) / 'mlflow.db'}"


def import_mlflow() -> Any:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
    for name in ("mlflow", "mlflow.store.db.utils", "mlflow.system_metrics.system_metrics_monitor", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)  # mlflow sets its own levels while it is imported
    return mlflow


def client(root: Path) -> Any:
    """The project's ``mlflow.MlflowClient``."""
    uri, mlflow = tracking_uri(root), import_mlflow()
    if uri.startswith("sqlite:///"):
        database = Path(uri.removeprefix("sqlite:///"))
        _found(mlflow, database)
        named = os.environ.get("MLFLOW_TRACKING_URI")  # else it is the project's own: no need to ask git again
        if not named or database == lineage_git.home(root) / "mlflow.db":  # not a store that several projects share
            follow(database, database.with_name("mlartifacts"))
    _forget_others(uri)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


@functools.lru_cache(maxsize=1)
def _forget_others(uri: str) -> None:
    """When the store changes: MLflow writes to the folder it remembers by a run's id, were it that of another copy."""
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()


def _found(mlflow: Any, database: Path) -> None:
    """Make a missing database beside its place and move it there whole: MLflow cannot go on from half its tables."""
    if database.is_file():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    draft = database.with_name(f"{database.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        mlflow.MlflowClient(tracking_uri=f"sqlite:///{draft}").search_experiments(max_results=1)
        with contextlib.suppress(FileExistsError):  # another process was first
            os.link(draft, database)
    finally:
        draft.unlink(missing_ok=True)


def experiment_id(root: Path, name: str = EXPERIMENT) -> str:
    """The experiment's id, made where it is missing (two processes may do so at once)."""
    mlflow = import_mlflow()
    store = client(root)
    location = None
    if tracking_uri(root).startswith("sqlite"):  # a server decides by itself
        location = (lineage_git.home(root) / "mlartifacts" / name).as_uri()
    if (found := store.get_experiment_by_name(name)) is None:
        try:
            return store.create_experiment(name, artifact_location=location)
        except mlflow.MlflowException:
            if (found := store.get_experiment_by_name(name)) is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise UserError(f"MLflow experiment {name!r} is deleted: restore it in the UI, or name another one")
    return found.experiment_id
