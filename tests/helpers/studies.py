"""Studies in processes of their own, and what must hold when they are done."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

from helpers import small_project
from partsynth.errors import UserError
from partsynth.records.study import StudyResults
from partsynth.study import space
from partsynth.study.results import results
from partsynth.study.storage import load_study
from partsynth.tracking.query import find_runs, get_run


def start(root: Path, workers: int, **options) -> subprocess.Popen:
    """A study in a process group of its own, as from a terminal."""
    arguments = [sys.executable, "pipeline.py", "study", json.dumps(options), str(workers)]
    return subprocess.Popen(
        arguments,
        cwd=root,
        env=small_project.environment() | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def trial_of_a_worker(process: subprocess.Popen, root: Path, options: dict, number: int | None = None):
    """(pid, trial) of a worker in the middle of a trial."""
    params = small_project.study_params(**options)
    opened = None
    for _ in range(6000):
        if process.poll() is not None:
            break
        if opened is None:
            with contextlib.suppress(UserError):
                opened = load_study(params.study, root)
        for trial in opened.get_trials(deepcopy=False) if opened else []:
            attributes = trial.user_attrs
            busy = trial.state.name == "RUNNING" and {"worker", "mlflow_run_id"} <= attributes.keys()
            if busy and number in (None, trial.number):
                return int(attributes["worker"].split(":")[1]), trial
        time.sleep(0.1)
    process.kill()
    raise AssertionError(f"the study ended before a worker could be caught: {process.communicate()[0]}")


def check_agreement(root: Path, options: dict, target: int) -> StudyResults:
    """As many trials complete as were asked for, none lost or doubled, and MLflow tells the same as Optuna."""
    data = results(small_project.study_params(**options), root)
    assert data.counts.get("complete") == target
    assert not {"running", "waiting"} & data.counts.keys()
    complete = [t for t in data.trials if t.state == "COMPLETE"]
    live = find_runs(root, parent_run_id=data.mlflow_run_id)
    assert {r.run_id for r in live} == {t.mlflow_run_id for t in complete} and len(live) == target
    runs = {r.run_id: r for r in live}
    for trial in complete:
        run = runs[trial.mlflow_run_id]
        assert run.status == "FINISHED" and run.tags["trial"] == str(trial.number)
        assert run.metrics["val_accuracy"] == trial.val_accuracy
        assert float(run.params["train.temperature"]) == trial.params["temperature"]
    everything = find_runs(root, parent_run_id=data.mlflow_run_id, live=False)
    assert not [(r.status, r.tags.get("why")) for r in everything if r.status not in ("FINISHED", "KILLED")]
    assert get_run(root, data.mlflow_run_id).status == "FINISHED"
    params = small_project.study_params(**options)
    ended = [t for t in data.trials if t.state in ("COMPLETE", "PRUNED")]  # one that is done again may be pruned
    for point in space.baselines(params, space.read_data(params, root)):
        assert [t.params == point for t in ended].count(True) == 1  # neither lost nor doubled
    return data
