"""Runs that no training of this process holds."""

from __future__ import annotations

import platform

import pytest
from helpers.runs import start

from partsynth.errors import UserError
from partsynth.store.process import identity
from partsynth.tracking.query import find_runs, get_run
from partsynth.tracking.registry import register_model
from partsynth.tracking.store import client
from partsynth.tracking.studies import end_run, log_results, open_study, settle
from partsynth.tracking.views import PROJECT


def test_figures_of_an_evaluation_are_added_to_a_run(plain):
    with start(plain, "evaluated") as run:
        pass
    assert log_results(plain, run.run_id, {"accuracy_test": 0.75})
    found = get_run(plain, run.run_id)
    assert found.metrics["accuracy_test"] == 0.75 and found.status == "FINISHED"
    assert not log_results(plain, "0" * 32, {"accuracy_test": 0.75})


def test_a_run_deleted_in_the_ui_is_noted_and_not_registered(plain):
    with start(plain, "deleted") as run:
        pass
    client(plain).delete_run(run.run_id)
    assert not log_results(plain, run.run_id, {"accuracy_test": 0.75})
    end_run(plain, run.run_id, "KILLED")
    found = get_run(plain, run.run_id)
    assert found.deleted and not found.live and found.status == "FINISHED"
    assert not find_runs(plain, fingerprint="deleted", live=False)
    with pytest.raises(UserError, match="it was deleted in MLflow"):
        register_model(plain, run.run_id, "")


def test_a_study_whose_run_was_deleted_goes_on(plain):
    first = open_study(plain, "study", {})
    client(plain).delete_run(first)
    assert open_study(plain, "study", {}, first) == first and not get_run(plain, first).deleted
    assert open_study(plain, "study", {}, "0" * 32) not in (first, "0" * 32)


def test_the_run_of_a_process_that_was_killed_before_its_study_knew_of_it_is_taken_on(plain, monkeypatch):
    monkeypatch.setattr("partsynth.tracking.studies.process.identity", lambda: f"{platform.node()}:999999999:1")
    left = open_study(plain, "study", {"setup": "real"})
    monkeypatch.undo()
    assert open_study(plain, "other", {"setup": "real"}) != left
    with pytest.MonkeyPatch.context() as patch:  # another project on the same server
        patch.setattr("partsynth.tracking.studies.project_id", lambda _: "another")
        theirs = open_study(plain, "study", {"setup": "real"})
        assert theirs != left and get_run(plain, theirs).tags[PROJECT] == "another"
    assert open_study(plain, "study", {"setup": "real_id"}) != left
    assert open_study(plain, "study", {"setup": "real"}) == left
    assert open_study(plain, "study", {"setup": "real"}) != left  # this process lives


def test_what_dead_workers_left_of_a_study_is_ended(plain, monkeypatch):
    parent = open_study(plain, "study", {})
    store, dead = client(plain), {"process": f"{platform.node()}:999999999:1"}
    alive = {"process": identity()}

    def nested(status: str, tags: dict[str, str]) -> str:
        run = store.create_run(
            store.get_run(parent).info.experiment_id, tags={"mlflow.parentRunId": parent, "trial": "0"} | tags
        )
        store.set_terminated(run.info.run_id, status) if status != "RUNNING" else None
        return run.info.run_id

    runs = {
        "running, dead": nested("RUNNING", dead),
        "running": nested("RUNNING", alive),
        "finished, dead, unknown": nested("FINISHED", dead),
        "finished, unknown yet": nested("FINISHED", alive),
        "complete": nested("FINISHED", dead),
    }
    settle(plain, parent, {runs["complete"]})
    found = {name: get_run(plain, run_id).status for name, run_id in runs.items()}
    assert found == {
        "running, dead": "KILLED",
        "running": "RUNNING",
        "finished, dead, unknown": "KILLED",
        "finished, unknown yet": "FINISHED",
        "complete": "FINISHED",
    }
