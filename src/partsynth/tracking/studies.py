"""Runs that no training of this process holds: a study's own, a dead worker's trial, those of finished trainings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from partsynth.lineage.identity import project_id
from partsynth.store import process
from partsynth.tracking.artifacts import Artifacts
from partsynth.tracking.query import find_runs, open_reader
from partsynth.tracking.run import TrainingRun
from partsynth.tracking.store import STUDIES, client, experiment_id, tracking_uri
from partsynth.tracking.views import PARENT, PROJECT, RunView, Status


def open_study(root: Path, name: str, tags: Mapping[str, Any], run_id: str | None = None) -> str:
    """The run that a study's trials are nested in: the given one RUNNING again (restored, where it was deleted in the
    UI). Where none is given or the store does not know it, the one of a process that was killed before it could tell
    the study of it, or a new one. Returns its id."""
    store = client(root)
    if run_id is not None and (run := _known(root, run_id)) is not None:
        if run.deleted:
            store.restore_run(run_id)
        store.update_run(run_id, status="RUNNING")
        return run_id
    mine = {PROJECT: project} if (project := project_id(root)) else {}
    told = mine | {key: str(value) for key, value in tags.items()}
    for run in find_runs(root, name=name, experiment=STUDIES):
        alike = PARENT not in run.tags and told.items() <= run.tags.items()
        if run.status == "RUNNING" and alike and run.orphaned:
            store.set_tag(run.run_id, "process", process.identity())
            return run.run_id
    made = store.create_run(experiment_id(root, STUDIES), tags=told | {"process": process.identity()}, run_name=name)
    return made.info.run_id


def end_run(root: Path, run_id: str, status: Status, tags: Mapping[str, Any] | None = None) -> None:
    """End a run: a study, or the trial of a dead worker; nothing where it was deleted meanwhile."""
    store = client(root)
    if (run := _known(root, run_id)) is None or run.deleted:
        return
    for key, value in (tags or {}).items():
        store.set_tag(run_id, key, value)
    store.set_terminated(run_id, status)


def settle(root: Path, parent_run_id: str, complete: Collection[str]) -> None:
    """End what dead workers left of a study's nested runs: those that run, and those of trials that had finished before
    the study knew that they were complete. Their trials are tried again, or others are.

    Parameters
    ----------
    complete : runs of the study's complete trials
    """
    store = client(root)
    for run in find_runs(root, parent_run_id=parent_run_id, experiment=STUDIES):
        unknown = run.status == "FINISHED" and "trial" in run.tags and run.run_id not in complete
        if (run.status == "RUNNING" or unknown) and run.orphaned:
            store.set_terminated(run.run_id, "KILLED")


def log_results(root: Path, run_id: str, metrics: Mapping[str, float]) -> bool:
    """Add an evaluation's figures to a finished run; False where the store does not know the run (a fresh
    clone), or it was deleted."""
    if (run := _known(root, run_id)) is None or run.deleted:
        return False
    artifacts = Artifacts(run.artifact_uri, tracking_uri(root))
    TrainingRun(client(root), run_id, artifacts).log_metrics(metrics)
    return True


def _known(root: Path, run_id: str) -> RunView | None:
    return None if (reader := open_reader(root)) is None else reader.run(run_id)
