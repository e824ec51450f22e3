"""Real MLflow on SQLite, real git and DVC in temporary folders."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import small_project

from partsynth.errors import UserError
from partsynth.lineage import git as lineage_git
from partsynth.lineage.git import git_state
from partsynth.lineage.graph import read_lock
from partsynth.store.base_model import locate_base
from partsynth.store.hashing import sha256_bytes
from partsynth.tracking import store as tracking_store
from partsynth.tracking.inputs import DataInput
from partsynth.tracking.query import find_runs, get_run, read_artifact
from partsynth.tracking.registry import model_versions, register_model
from partsynth.tracking.run import training_run
from partsynth.tracking.store import STUDIES, _found, experiment_id, import_mlflow
from partsynth.tracking.studies import log_results, open_study

IDENTITY = "f" * 64


@pytest.fixture(autouse=True)
def no_outside_store(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "PARTSYNTH_ROOT", "DVC_STAGE", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    return small_project.finished(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """A folder with neither git nor DVC; tests share its store (making one takes MLflow seconds)."""
    return tmp_path_factory.mktemp("plain")


def start(root: Path, identity: str = IDENTITY, **more):
    return training_run(root, "train", "real", 1, identity, {"train": {"temperature": 0.1}}, [], **more)


def test_a_stage_s_run_says_what_it_is_made_of(project):
    runs = {run.name: run for run in find_runs(project)}
    assert sorted(runs) == ["real-seed0", "real_id-seed0", "real_id_negatives-seed0"]
    run = runs["real_id-seed0"]
    assert run.status == "FINISHED" and run.live
    head = small_project.command(project, "git", "rev-parse", "HEAD").stdout.strip()
    assert run.tags["git_commit"] == head
    assert run.tags["git_dirty"] == "false"  # dvc.lock, written meanwhile, does not count
    assert run.tags["stage"] == "train@real_id-0"
    assert run.tags["lineage"] == "complete"
    assert run.tags["base_sha256"] == locate_base("models/base", None, project)[1]
    assert run.tags["lock_sha256"] == sha256_bytes((project / "requirements.lock").read_bytes())
    assert {"device", "partsynth_version", "setup", "seed", "fingerprint", "code_sha256"} <= run.tags.keys()
    assert run.params["train.temperature"] == "0.1"
    assert run.metrics["accuracy_val"] == 0.5


def test_data_inputs_carry_dvc_s_hashes(project):
    (run,) = find_runs(project, name="real_id_negatives-seed0")
    lock = read_lock(project)
    outs = {out["path"]: out["md5"] for stage in lock.values() for out in stage["outs"]}
    got = {item.path: item.digest for item in run.inputs}
    wanted = ("data/real", "data/augmented/id", "data/augmented/near_ood", "models/tokens")
    assert got == {path: outs[path] for path in (*wanted, "data/selected/real_id_negatives.csv")}
    assert all(len(got[path]) == 36 for path in wanted)  # md5 + ".dir", what MLflow has room for
    users = find_runs(project, digest=outs["data/augmented/id"])
    assert [r.name for r in users] == ["real_id-seed0", "real_id_negatives-seed0"]


def test_the_stage_graph_is_the_run_s_own_and_holds_its_ancestors_alone(project):
    (run,) = find_runs(project, name="real_id-seed0")
    data = read_artifact(project, run.run_id, "lineage/stages.json")
    assert sha256_bytes(data) == run.tags["lineage_sha256"]
    graph = json.loads(data)
    assert sorted(graph["stages"]) == [
        "calibrate@id",
        "generate@id",
        "ingest",
        "quality@id",
        "select@real",
        "select@real_id",
        "tokens",
        "train@real_id-0",
    ]
    own = graph["stages"]["train@real_id-0"]
    final = read_lock(project)["train@real_id-0"]
    assert own["deps"] == sorted(final["deps"], key=lambda d: d["path"])  # as DVC itself recorded afterwards
    assert own["params"] == final["params"] and own["cmd"] == final["cmd"]
    assert not graph["disagree"]
    for name in ("params.yaml", "dvc.yaml"):
        assert read_artifact(project, run.run_id, f"lineage/{name}") == (project / name).read_bytes()
    record = json.loads((project / "models/supcon/real_id/0/run.json").read_text())
    assert record["run_id"] == run.run_id and record["lineage"] == graph


def test_a_dataset_source_reads_back(project, tmp_path):
    import mlflow

    from partsynth.tracking.inputs import DvcDatasetSource

    (run,) = find_runs(project, name="real_id-seed0")
    inputs = tracking_store.client(project).get_run(run.run_id).inputs.dataset_inputs
    item = next(i for i in inputs if json.loads(i.dataset.source)["path"] == "data/augmented/id")
    source = mlflow.data.get_source(item)  # by the entry point, as any MLflow user would
    assert isinstance(source, DvcDatasetSource)
    folder = source.load(str(tmp_path))
    names = {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()}
    kept = project / "data/augmented/id"
    assert names == {p.relative_to(kept) for p in kept.rglob("*") if p.is_file()}
    assert all((folder / n).read_bytes() == (kept / n).read_bytes() for n in names)


def test_a_run_shows_what_it_was_trained_on(project):
    from PIL import Image

    (run,) = find_runs(project, name="real_id-seed0")
    data = read_artifact(project, run.run_id, "sheets/training.jpg")
    sheet = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=float)
    assert sheet.shape == (2 * 16 + 2 * 66, 16 * 66, 3)  # real and id: a heading and a row of pictures each
    assert sheet[20:30].std() > 20 and sheet[-60:-50].std() > 20  # 8 and 16 pictures of noise
    assert read_artifact(project, run.run_id, "plots/none.png") is None


def test_figures_of_an_evaluation_are_added_to_a_run(plain):
    with start(plain, "evaluated") as run:
        pass
    assert log_results(plain, run.run_id, {"accuracy_test": 0.75})
    found = get_run(plain, run.run_id)
    assert found.metrics["accuracy_test"] == 0.75 and found.status == "FINISHED"
    assert not log_results(plain, "0" * 32, {"accuracy_test": 0.75})


def test_uncommitted_changes_are_kept_and_marked(project, tmp_path):
    root = small_project.copy(project, tmp_path / "copy")
    (root / "dvc.lock").write_text((root / "dvc.lock").read_text() + "\n")
    assert git_state(root).dirty is False
    (root / "requirements.lock").write_text("nothing==2\n")
    (root / "untracked.txt").write_text("x")
    state = git_state(root)
    assert state.dirty and b"nothing==2" in state.patch and b"untracked" not in state.patch
    with start(root) as run:
        pass
    assert b"nothing==2" in read_artifact(root, run.run_id, "lineage/uncommitted.patch")
    assert get_run(root, run.run_id).tags["git_dirty"] == "true"


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
        "import time; from pathlib import Path; from partsynth.tracking import run as tracking\n"
        f"with tracking.training_run(Path({str(plain)!r}), 'train', 'real', 1, 'killed', {{}}, []) as run:\n"
        "    print(run.run_id, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    dead = process.stdout.readline().strip()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert get_run(plain, dead).status == "RUNNING"
    with start(plain, "killed") as run:
        pass
    assert get_run(plain, dead).status == "KILLED"
    assert get_run(plain, dead).tags["superseded_by"] == run.run_id
    assert [r.run_id for r in find_runs(plain, fingerprint="killed")] == [run.run_id]


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


def test_runs_are_found_by_id_name_and_alias_and_a_model_is_registered_once(plain, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with training_run(
        plain, "train", "real_id", 7, "model", {}, [DataInput("real", "data/real", "0" * 32 + ".dir")]
    ) as run:
        run.log_model(tmp_path)
    version = register_model(plain, run.run_id, "# Card", alias="champion", metrics={"accuracy_test": 0.7})
    assert register_model(plain, run.run_id, "# Card 2", alias="champion") == version
    for name in (run.run_id, "champion", "partsynth@champion", "real_id-seed7"):
        assert get_run(plain, name).run_id == run.run_id
    stored = tracking_store.client(plain).get_model_version("partsynth", version)
    assert stored.description == "# Card 2"
    assert stored.tags["data.data/real"] == "0" * 32 + ".dir" and stored.tags["metric.accuracy_test"] == "0.7"
    assert model_versions(plain)[0]["aliases"] == ["champion"]
    with pytest.raises(UserError, match="no MLflow run, alias or run name 'nobody'"):
        get_run(plain, "nobody")
    with start(plain, "without a model") as empty:
        pass
    with pytest.raises(UserError, match="logged no model"):
        register_model(plain, empty.run_id, "")


def test_two_workers_that_first_name_a_data_set_at_one_moment_both_log_it(plain, monkeypatch):
    from mlflow.store.tracking import sqlalchemy_store

    def run_of(setup):
        inputs = [DataInput("real", "data/real", "race")]
        return training_run(plain, "train", setup, 1, f"race of {setup}", {}, inputs)

    class Between:  # MLflow asks for an id between looking for a data set and adding it
        met = False

        def uuid4(self):
            if not self.met and sys._getframe(1).f_code.co_name == "_log_inputs_impl":
                self.met = True
                with run_of("the other") as run:
                    self.run_id = run.run_id
            return uuid.uuid4()

    monkeypatch.setattr(sqlalchemy_store, "uuid", between := Between())
    with run_of("one") as run:
        pass
    assert between.met and between.run_id != run.run_id
    for run_id in (run.run_id, between.run_id):
        view = get_run(plain, run_id)
        assert view.status == "FINISHED" and [item.digest for item in view.inputs] == ["race"]


def test_system_metrics_are_logged_behind_the_first_measurement(plain, monkeypatch):
    monkeypatch.setattr("partsynth.tracking.run.SAMPLING_INTERVAL", 0.3)
    with start(plain, "busy") as run:
        time.sleep(1)
        assert not get_run(plain, run.run_id).metrics
        run.log_metrics({"val_accuracy_knn": 0.5}, 1)
        time.sleep(2)
    found = get_run(plain, run.run_id).metrics
    assert next(iter(found)) == "val_accuracy_knn" and "system/cpu_utilization_percentage" in found


def test_looking_makes_no_store(tmp_path):
    assert find_runs(tmp_path) == [] and model_versions(tmp_path) == []
    with pytest.raises(UserError, match="no MLflow run"):
        get_run(tmp_path, "x")
    assert not list(tmp_path.iterdir())


def test_importing_costs_nothing_and_the_first_run_is_quiet(tmp_path):
    code = (
        "import sys; from pathlib import Path; from partsynth.tracking import run as tracking\n"
        "assert 'mlflow' not in sys.modules and 'dvc' not in sys.modules\n"
        f"with tracking.training_run(Path({str(tmp_path)!r}), 'train', 'real', 1, 'x', {{}}, []): pass"
    )
    done = small_project.command(tmp_path, sys.executable, "-c", code, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "mlflow.db").is_file()


def test_the_store_s_address(tmp_path, monkeypatch):
    root = tmp_path / "repository"
    copy = root / ".dvc/tmp/exps/standalone/tmpabc"
    (copy / "sub").mkdir(parents=True)
    assert lineage_git.home(copy) == root  # dvc exp run --temp
    assert lineage_git.home(copy / "sub") == root / "sub"
    assert lineage_git.home(root) == root
    assert tracking_store.tracking_uri(copy) == f"sqlite:///{root}/mlflow.db"
    (root / "file").write_text("x")
    for arguments in (["init", "-q"], ["add", "file"], ["commit", "-qm", "x"], ["worktree", "add", "-q", "../tree"]):
        small_project.command(root, "git", *arguments)
    assert lineage_git.home(tmp_path / "tree") == root
    monkeypatch.setenv("PARTSYNTH_ROOT", str(tmp_path))
    assert lineage_git.home(copy) == tmp_path
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    assert tracking_store.tracking_uri(copy) == "http://localhost:5000"


def test_a_stamp_is_cheap(project, tmp_path, monkeypatch):
    root = small_project.copy(project, tmp_path / "copy")
    monkeypatch.setenv("DVC_STAGE", "train@real_id-0")
    for identity in ("warm up", "measured"):  # the first pays for imports
        wall, cpu = time.perf_counter(), time.process_time()
        with start(root, identity):
            pass
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert min(wall, cpu) < 2
    assert find_runs(root, fingerprint="measured")[0].tags["lineage"] == "complete"


def test_a_copied_project_has_artifacts_of_its_own(tmp_path, plain):
    with start(plain, "copied") as run:
        pass
    copy = tmp_path / "a copy"
    shutil.copytree(plain, copy)
    first = Path(tracking_store.client(plain).get_run(run.run_id).info.artifact_uri.removeprefix("file://"))
    first.rename(first.with_name("elsewhere"))
    assert read_artifact(plain, run.run_id, "lineage/stages.json") is None
    assert read_artifact(copy, run.run_id, "lineage/stages.json")
    with start(copy, "in the copy") as later:
        pass
    assert list(copy.glob(f"mlartifacts/*/{later.run_id}")) and not list(plain.glob(f"mlartifacts/*/{later.run_id}"))
    addresses = [r.info.artifact_uri for r in tracking_store.client(plain).search_runs(["1"])]
    assert addresses and all(address.startswith(plain.as_uri()) for address in addresses)


def test_two_copies_in_one_process_are_written_each_in_its_own(tmp_path, plain):
    with start(plain, "shared") as run:
        pass
    copy = tmp_path / "a copy"
    shutil.copytree(plain, copy)
    for root, text in ((plain, "first"), (copy, "second"), (plain, "third")):
        tracking_store.client(root).log_text(run.run_id, text, "note.txt")
    assert read_artifact(plain, run.run_id, "note.txt") == b"third"
    assert read_artifact(copy, run.run_id, "note.txt") == b"second"


def test_a_copied_store_that_cannot_be_changed_is_named(tmp_path, plain):
    with start(plain, "locked"):
        pass
    shutil.copytree(plain, tmp_path / "copy")
    database = tmp_path / "copy/mlflow.db"
    with contextlib.closing(sqlite3.connect(database)) as store, store:
        store.execute("CREATE TRIGGER locked BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'locked'); END")
    with pytest.raises(UserError, match=f"{database} names a former folder"):
        tracking_store.client(tmp_path / "copy")
    with contextlib.closing(sqlite3.connect(database)) as store:  # all or nothing
        assert (
            store.execute("SELECT artifact_location FROM experiments WHERE name = 'partsynth'")
            .fetchone()[0]
            .startswith(plain.as_uri())
        )


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


def test_a_store_killed_while_it_is_made_leaves_no_half_database(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mlflow = import_mlflow()

    class Killed(BaseException):
        pass

    def killed(uri):
        Path(uri.removeprefix("sqlite:///")).write_bytes(b"half")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(mlflow, "MlflowClient", lambda tracking_uri: killed(tracking_uri))
        with pytest.raises(Killed):
            _found(mlflow, tmp_path / "mlflow.db")
    assert list(tmp_path.iterdir()) == []
    assert experiment_id(tmp_path) == experiment_id(tmp_path)
    assert (tmp_path / "mlflow.db").is_file()
