"""MLflow's own tables: read as its client reads them, and moved with their project."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest
from helpers import small_project
from helpers.runs import start

from partsynth.errors import UserError
from partsynth.tracking import private
from partsynth.tracking.inputs import DataInput
from partsynth.tracking.query import get_run, read_artifact
from partsynth.tracking.registry import register_model
from partsynth.tracking.served import ClientReader
from partsynth.tracking.store import STUDIES, client, experiment_id
from partsynth.tracking.studies import open_study
from partsynth.tracking.views import Wanted


def test_a_copied_project_has_artifacts_of_its_own(tmp_path, plain):
    with start(plain, "copied") as run:
        pass
    copy = tmp_path / "a copy"
    shutil.copytree(plain, copy)
    first = Path(client(plain).get_run(run.run_id).info.artifact_uri.removeprefix("file://"))
    first.rename(first.with_name("elsewhere"))
    assert read_artifact(plain, run.run_id, "lineage/stages.json") is None
    assert read_artifact(copy, run.run_id, "lineage/stages.json")
    with start(copy, "in the copy") as later:
        pass
    assert list(copy.glob(f"mlartifacts/*/{later.run_id}")) and not list(plain.glob(f"mlartifacts/*/{later.run_id}"))
    addresses = [r.info.artifact_uri for r in client(plain).search_runs(["1"])]
    assert addresses and all(address.startswith(plain.as_uri()) for address in addresses)


def test_a_copied_store_that_cannot_be_changed_is_named(tmp_path, plain):
    with start(plain, "locked"):
        pass
    shutil.copytree(plain, tmp_path / "copy")
    database = tmp_path / "copy/mlflow.db"
    with contextlib.closing(sqlite3.connect(database)) as store, store:
        store.execute("CREATE TRIGGER locked BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'locked'); END")
    with pytest.raises(UserError, match=f"{database} names a former folder"):
        client(tmp_path / "copy")
    with contextlib.closing(sqlite3.connect(database)) as store:  # all or nothing
        assert (
            store.execute("SELECT artifact_location FROM experiments WHERE name = 'partsynth'")
            .fetchone()[0]
            .startswith(plain.as_uri())
        )


@pytest.fixture(scope="module")
def stored(project, tmp_path_factory):
    """A store with a bit of everything: failed, nested, replaced, deleted and registered runs."""
    root = small_project.copy(project, tmp_path_factory.mktemp("stored") / "project")
    parent = open_study(root, "study", {"study": "s"})
    for mark in ("again", "again", "it's \\ odd"):
        with start(root, mark, name=mark, parent_run_id=parent, experiment=STUDIES) as run:
            run.log_metrics({"loss": 1.0, "none": float("nan"), "endless": float("inf")}, 1)
            run.log_metrics({"loss": 0.5}, 2)
    with contextlib.suppress(ValueError), start(root, "failed"):
        raise ValueError
    with start(root, "deleted", inputs=[DataInput("real", "data/real", "0" * 32)]) as run:
        pass
    client(root).delete_run(run.run_id)
    with start(root, "gone", experiment="gone"):
        pass
    client(root).delete_experiment(experiment_id(root, "gone"))
    for name, alias in (("real-seed0", "first"), ("real_id-seed0", "champion"), ("real_id-seed0", "second")):
        register_model(root, get_run(root, name).run_id, "# Card", alias=alias)
    return root, run.run_id


def test_the_file_read_directly_says_what_the_client_says(stored):
    root, deleted = stored
    direct, served = private.reader(root / "mlflow.db"), ClientReader(client(root))
    digest = next(run.inputs[0].digest for run in served.runs(Wanted()) if run.inputs)
    parent = next(run.run_id for run in served.runs(Wanted()) if run.name == "study")
    for wanted, least in (
        (Wanted(), 8),
        (Wanted(tags={"setup": "real"}), 4),
        (Wanted(tags={"setup": "real", "seed": "0"}), 1),
        (Wanted(tags={"fingerprint": "it's \\ odd"}), 1),
        (Wanted(tags={"mlflow.parentRunId": parent}), 3),
        (Wanted(digest=digest), 1),
        (Wanted(digest="nothing"), 0),
        (Wanted(name="real-seed0"), 1),
        (Wanted(experiment=STUDIES), 4),
        (Wanted(experiment="gone"), 0),
        (Wanted(experiment="nothing"), 0),
    ):
        assert direct.runs(wanted) == served.runs(wanted), wanted
        assert len(direct.runs(wanted)) >= least
        assert bool(direct.runs(wanted)) == bool(least)
    for run_id in (deleted, parent, "nobody", *(run.run_id for run in served.runs(Wanted()))):
        assert direct.run(run_id) == served.run(run_id)
    assert direct.run(deleted).name and direct.run("nobody") is None
    for alias in ("champion", "first", "second", "latest", "nothing"):
        assert direct.aliased("partsynth", alias) == served.aliased("partsynth", alias), alias
    assert direct.aliased("partsynth", "champion") == direct.aliased("partsynth", "latest")
    assert direct.aliased("nothing", "champion") is None
    assert direct.versions() == served.versions()
    assert [model.aliases for model in direct.versions()] == [("champion", "second"), ("first",)]


def test_tables_of_another_form_are_left_to_the_client(stored, tmp_path):
    database = tmp_path / "mlflow.db"
    assert private.reader(database) is None
    shutil.copy(stored[0] / "mlflow.db", database)
    assert private.reader(database)
    with contextlib.closing(sqlite3.connect(database)) as store, store:
        store.execute("UPDATE alembic_version SET version_num = 'another'")
    assert private.reader(database) is None
    database.write_bytes(b"no database at all, but longer than a header of one would be: " * 3)
    assert private.reader(database) is None
