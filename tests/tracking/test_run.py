"""Runs round trainings: how they begin, end and replace each other."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import small_project
from helpers.runs import start

from partsynth.store.process import identity
from partsynth.tracking.query import find_runs, get_run, read_artifact
from partsynth.tracking.store import STUDIES
from partsynth.tracking.studies import open_study

TESTS = Path(__file__).parents[1]


def test_a_run_shows_what_it_was_trained_on(project):
    from PIL import Image

    (run,) = find_runs(project, name="real_id-seed0")
    data = read_artifact(project, run.run_id, "sheets/training.jpg")
    sheet = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=float)
    assert sheet.shape == (2 * 16 + 2 * 66, 16 * 66, 3)  # real and id: a heading and a row of pictures each
    assert sheet[20:30].std() > 20 and sheet[-60:-50].std() > 20  # 8 and 16 pictures of noise
    assert read_artifact(project, run.run_id, "plots/none.png") is None


def test_it_works_outside_git_and_dvc_and_says_so(plain):
    with start(plain) as run:
        run.log_metrics({"loss": 1.0, "odd": float("nan")}, 3)
    found = get_run(plain, run.run_id)
    assert found.tags["git_commit"].startswith("absent") and found.tags["lineage"].startswith("absent")
    assert found.metrics == {"loss": 1.0}


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(1), "KILLED")]
)
def test_what_is_raised_inside_ends_the_run_and_goes_on(plain, error, status):
    with pytest.raises(type(error)), start(plain, "failing") as run:
        raise error
    found = get_run(plain, run.run_id)
    assert found.status == status and not found.live
    assert found.tags.get("why") == (f"{type(error).__name__}: {error}" if status == "FAILED" else None)


def test_a_rerun_leaves_one_live_run_and_deletes_none(plain):
    ids = []
    for _ in range(3):
        with start(plain, "again") as run:
            ids.append(run.run_id)
    live = find_runs(plain, fingerprint="again")
    assert [r.run_id for r in live] == ids[-1:]
    everything = find_runs(plain, fingerprint="again", live=False)
    assert [r.run_id for r in everything] == ids
    assert [r.tags.get("superseded_by") for r in everything] == [ids[1], ids[2], None]
    with pytest.raises(ValueError), start(plain, "again"):  # a failed rerun replaces nothing
        raise ValueError
    assert [r.run_id for r in find_runs(plain, fingerprint="again")] == ids[-1:]


def test_the_run_of_a_killed_process_does_not_stay_live(plain):
    code = (
        "from pathlib import Path; from helpers.runs import start\n"
        f"with start(Path({str(plain)!r}), 'killed') as run:\n"
        "    print(run.run_id, flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=TESTS
    )
    dead = process.stdout.readline().strip()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert get_run(plain, dead).status == "RUNNING"
    with start(plain, "killed") as run:
        pass
    assert get_run(plain, dead).status == "KILLED"
    assert get_run(plain, dead).tags["superseded_by"] == run.run_id
    assert [r.run_id for r in find_runs(plain, fingerprint="killed")] == [run.run_id]


@pytest.mark.parametrize(
    ("process", "status"), [("{here}:{start}", "RUNNING"), ("{here}:1", "KILLED"), ("{here}", "RUNNING")]
)
def test_a_later_process_of_the_same_pid_keeps_no_run_alive(plain, process, status):
    """A name without a start is that of an older version: its pid is all that can be asked for."""
    here, _, begun = identity().rpartition(":")
    with start(plain, f"reused {process}") as run:
        run.set_tags({"process": process.format(here=here, start=begun)})
        with start(plain, f"reused {process}"):
            pass
        assert get_run(plain, run.run_id).status == status


def test_nested_runs_keep_ids_of_their_own_whatever_the_environment_says(plain, monkeypatch):
    parent = open_study(plain, "study", {"study": "s"})
    monkeypatch.setenv("MLFLOW_RUN_ID", parent)
    ids = set()
    for trial in range(2):
        options = {"parent_run_id": parent, "experiment": STUDIES, "name": f"s-trial{trial}"}
        with start(plain, f"trial{trial}", **options) as run:
            ids.add(run.run_id)
    assert len(ids | {parent}) == 3
    assert {r.run_id for r in find_runs(plain, parent_run_id=parent)} == ids


def test_the_system_is_watched_from_the_first_measurement_to_the_end(plain, monkeypatch):
    told = []

    def watch(run_id, uri):
        told.append(f"watch {run_id}")
        return lambda: told.append("stop")

    monkeypatch.setattr("partsynth.tracking.run.watch_system", watch)
    with start(plain, "watched") as run:
        run.log_artifact(Path(__file__))
        assert told == []
        run.log_metrics({"val_accuracy_knn": 0.5}, 1)
        run.log_metrics({"val_accuracy_knn": 0.6}, 2)
        assert told == [f"watch {run.run_id}"]
    assert told == [f"watch {run.run_id}", "stop"]
    with start(plain, "without figures"):
        pass
    assert len(told) == 2


def test_system_metrics_are_logged_behind_the_first_measurement(plain, monkeypatch):
    monkeypatch.setattr("partsynth.tracking.system.INTERVAL", 0.05)
    with start(plain, "busy") as run:
        run.log_metrics({"val_accuracy_knn": 0.5}, 1)
        for _ in range(600):
            found = get_run(plain, run.run_id).metrics
            if "system/cpu_utilization_percentage" in found:
                break
            time.sleep(0.1)
    assert next(iter(found)) == "val_accuracy_knn" and "system/cpu_utilization_percentage" in found


def test_importing_costs_nothing_and_the_first_run_is_quiet(tmp_path):
    code = (
        "import sys; from pathlib import Path; from partsynth.tracking.run import RunSpec, training_run\n"
        "assert 'mlflow' not in sys.modules and 'dvc' not in sys.modules\n"
        "spec = RunSpec(stage='train', setup='real', seed=1, fingerprint='x')\n"
        f"with training_run(Path({str(tmp_path)!r}), spec): pass"
    )
    done = small_project.command(tmp_path, sys.executable, "-c", code, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "mlflow.db").is_file()
