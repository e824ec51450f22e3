"""Where the store is, and that it is whole."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
import sqlalchemy
import yaml
from helpers import small_project

from partsynth.errors import UserError
from partsynth.lineage import git as lineage_git
from partsynth.store import process
from partsynth.tracking import store
from partsynth.tracking.query import find_runs
from partsynth.tracking.store import client, experiment_id, import_mlflow, tracking_uri


def test_the_store_s_address(tmp_path, monkeypatch):
    root = tmp_path / "repository"
    copy = root / ".dvc/tmp/exps/standalone/tmpabc"
    (copy / "sub").mkdir(parents=True)
    assert lineage_git.home(copy) == root  # dvc exp run --temp
    assert lineage_git.home(copy / "sub") == root / "sub"
    assert lineage_git.home(root) == root
    assert tracking_uri(copy) == f"sqlite:///{root}/mlflow.db"
    (root / "file").write_text("x")
    for arguments in (["init", "-q"], ["add", "file"], ["commit", "-qm", "x"], ["worktree", "add", "-q", "../tree"]):
        small_project.command(root, "git", *arguments)
    assert lineage_git.home(tmp_path / "tree") == root
    monkeypatch.setenv("PARTSYNTH_ROOT", str(tmp_path))
    assert lineage_git.home(copy) == tmp_path
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    assert tracking_uri(copy) == "http://localhost:5000"


def test_a_store_killed_while_it_is_made_leaves_no_half_database(tmp_path, monkeypatch):
    mlflow = import_mlflow()

    class Killed(BaseException):
        pass

    def killed(tracking_uri):
        Path(tracking_uri.removeprefix("sqlite:///")).write_bytes(b"half")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(store, "_make", store._make.__wrapped__)
        patch.setattr(mlflow, "MlflowClient", killed)
        with pytest.raises(Killed):
            client(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert experiment_id(tmp_path) == experiment_id(tmp_path)
    assert (tmp_path / "mlflow.db").is_file()


def test_a_deleted_experiment_is_named(tmp_path, plain):
    shutil.copytree(plain, tmp_path / "copy") if (plain / "mlflow.db").is_file() else (tmp_path / "copy").mkdir()
    number = experiment_id(tmp_path / "copy", "gone")
    client(tmp_path / "copy").delete_experiment(number)
    with pytest.raises(UserError, match="'gone' is deleted"):
        experiment_id(tmp_path / "copy", "gone")


@pytest.mark.slow
def test_experiments_land_in_the_same_store_from_a_temporary_copy_too(project, tmp_path):
    root = small_project.copy(project, tmp_path / "copy")
    small_project.command(root, "git", "add", "-A")
    small_project.command(root, "git", "commit", "-qm", "ran")
    small_project.dvc(root, "exp", "run", "-n", "hot", "-S", "train.temperature=0.4", "train@real-0")
    (hot,) = [r for r in find_runs(root) if r.params["train.temperature"] == "0.4"]
    assert hot.tags["dvc_exp"] == "hot" and hot.tags["lineage"] == "complete"
    small_project.command(root, "git", "checkout", "-q", "--", "params.yaml")
    small_project.dvc(root, "exp", "run", "--temp", "-n", "warmer", "-S", "train.temperature=0.2", "train@real-0")
    (run,) = [r for r in find_runs(root) if r.params["train.temperature"] == "0.2"]
    assert run.tags["dvc_exp"] == "warmer" and run.name == "real-seed0" and run.tags["lineage"] == "complete"
    assert run.tags["git_dirty"] == "true"  # params.yaml differs from the commit it started from
    assert yaml.safe_load((root / "params.yaml").read_text())["train"]["temperature"] == 0.1
    assert os.path.samefile(lineage_git.home(root), root)


def test_experiments_are_of_trainings_unless_a_person_says_otherwise(tmp_path):
    number, kind = experiment_id(tmp_path), "mlflow.experimentKind"
    store = client(tmp_path)
    assert store.get_experiment(number).tags[kind] == "custom_model_development"
    store.set_experiment_tag(number, kind, "genai_development")
    experiment_id(tmp_path)
    assert store.get_experiment(number).tags[kind] == "genai_development"
    old = store.create_experiment("old")
    assert experiment_id(tmp_path, "old") == old and store.get_experiment(old).tags[kind] == "custom_model_development"


def test_an_interrupt_waits_for_a_database_s_transaction(plain, monkeypatch):
    """In the middle of a write, as a signal comes: what was begun is written, and the run can be ended."""
    held = client(plain)
    run = held.create_run(experiment_id(plain))
    execute = sqlalchemy.engine.default.DefaultDialect.do_execute

    def interrupted(self, cursor, statement, *rest):
        execute(self, cursor, statement, *rest)
        if statement.startswith("INSERT INTO tags"):
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(sqlalchemy.engine.default.DefaultDialect, "do_execute", interrupted)
        with process.stoppable(), pytest.raises(KeyboardInterrupt):
            held.set_tag(run.info.run_id, "colour", "grey")
    held.set_terminated(run.info.run_id, "KILLED")
    found = held.get_run(run.info.run_id)
    assert (found.data.tags["colour"], found.info.status) == ("grey", "KILLED")
