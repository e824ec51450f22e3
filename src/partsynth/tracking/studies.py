"""Studies' parent runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from partsynth.tracking.query import exists
from partsynth.tracking.run import TrainingRun
from partsynth.tracking.store import STUDIES, client, experiment_id, import_mlflow


def open_study(root: Path, name: str, tags: dict[str, Any], run_id: str | None = None) -> str:
    """The run that a study's trials are nested in: made, or the given one RUNNING again; returns its id."""
    import_mlflow()
    store = client(root)
    if run_id is not None:
        store.update_run(run_id, status="RUNNING")
        return run_id
    made = store.create_run(
        experiment_id(root, STUDIES), tags={key: str(value) for key, value in tags.items()}, run_name=name
    )
    return made.info.run_id


def end_run(root: Path, run_id: str, status: str, tags: dict[str, Any] | None = None) -> None:
    """End a run that no ``training_run`` of this process holds: a study, or the trial of a dead worker."""
    import_mlflow()
    store = client(root)
    for key, value in (tags or {}).items():
        store.set_tag(run_id, key, value)
    store.set_terminated(run_id, status)


def log_results(root: Path, run_id: str, metrics: dict[str, float]) -> bool:
    """Add an evaluation's figures to a finished run; False where the store does not know the run (a fresh clone)."""
    mlflow = import_mlflow()
    if not exists(root):
        return False
    store = client(root)
    try:
        store.get_run(run_id)
    except mlflow.MlflowException:
        return False
    TrainingRun(store, run_id, {}).log_metrics(metrics)
    return True
