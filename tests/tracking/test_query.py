"""Runs that are looked for."""

from __future__ import annotations

import sys

import pytest
from helpers import small_project
from helpers.runs import start

from partsynth.errors import UserError
from partsynth.tracking.query import find_runs, get_run, model_versions, read_artifact


def test_looking_makes_no_store(tmp_path):
    assert find_runs(tmp_path) == [] and model_versions(tmp_path) == []
    with pytest.raises(UserError, match="no MLflow run"):
        get_run(tmp_path, "x")
    assert not list(tmp_path.iterdir())


def test_a_name_of_several_live_runs_is_refused(plain):
    for mark in ("one", "two"):
        with start(plain, mark, name="twice"):
            pass
    with pytest.raises(UserError, match="2 live runs are named twice: "):
        get_run(plain, "twice")


def test_looking_does_without_mlflow(project):
    (run,) = find_runs(project, name="real_id-seed0")
    code = (
        "import sys; from pathlib import Path; from partsynth.tracking import query; root = Path()\n"
        "(run,) = query.find_runs(root, name='real_id-seed0')\n"
        "assert query.get_run(root, run.run_id) == run; query.model_versions(root)\n"
        "assert query.read_artifact(root, run.run_id, 'lineage/stages.json')\n"
        "assert not {'mlflow', 'sqlalchemy', 'pandas'} & set(sys.modules); print(run.run_id)"
    )
    assert small_project.command(project, sys.executable, "-c", code).stdout.strip() == run.run_id


def test_a_server_s_store_is_read_through_the_client(project, monkeypatch):
    """As a server would: no file to look into."""
    expected = find_runs(project, live=False)
    monkeypatch.setattr("partsynth.tracking.private.reader", lambda path: None)
    assert find_runs(project, live=False) == expected
    assert read_artifact(project, expected[0].run_id, "lineage/stages.json")
    with pytest.raises(UserError, match="no MLflow run"):
        get_run(project, "nobody")
