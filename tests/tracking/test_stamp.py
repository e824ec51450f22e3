"""What a run says that it is made of."""

from __future__ import annotations

import json

from helpers import small_project
from helpers.runs import start

from partsynth.lineage.git import git_state
from partsynth.lineage.graph import read_lock
from partsynth.store.base_model import locate_base
from partsynth.store.hashing import sha256_bytes
from partsynth.tracking.inputs import DataInput
from partsynth.tracking.query import find_runs, get_run, read_artifact
from partsynth.tracking.stamp import take_stamp


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


def test_a_run_that_dvc_started_knows_its_stage_s_ancestors(project, tmp_path, monkeypatch):
    root = small_project.copy(project, tmp_path / "copy")
    monkeypatch.setenv("DVC_STAGE", "train@real_id-0")
    with start(root, "of a stage") as run:
        pass
    (found,) = find_runs(root, fingerprint="of a stage")
    assert found.run_id == run.run_id
    assert found.tags["lineage"] == "complete" and found.tags["stage"] == "train@real_id-0"


def test_a_run_keeps_the_decisions_that_its_tables_obey(tmp_path):
    """git has them, not DVC's cache; a table without a decision is not among them."""
    (tmp_path / ".dvc").mkdir()
    review = tmp_path / "data/review/id.csv"
    review.parent.mkdir(parents=True)
    review.write_text("path,decision\nx.png,drop\n")
    (tmp_path / "data/review/near_ood.csv").write_text("of a set that this table does not hold\n")
    stages = {
        name: {
            "cmd": "x",
            "deps": [{"path": path, "md5": "1" * 32} for path in deps],
            "outs": [{"path": f"data/selected/{name[7:]}.csv", "md5": "2" * 32}],
        }
        for name, deps in {
            "select@real": ["data/real/train", "data/review/none.csv"],
            "select@real_id": ["data/selected/real.csv", "data/review/id.csv"],
            "select@real_id_negatives": ["data/selected/real_id.csv", "data/review/near_ood.csv"],
        }.items()
    }
    (tmp_path / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))
    table = DataInput("selected-real_id", "data/selected/real_id.csv")
    stamp = take_stamp(tmp_path, "train", [table])
    sha256 = sha256_bytes(review.read_bytes())
    assert stamp.tags["review_sha256"] == f"id={sha256}"
    assert stamp.files["data/review/id.csv"] == review.read_bytes()
    assert stamp.graph["files"]["data/review/id.csv"] == sha256
    assert [name for name in stamp.files if "review" in name] == ["data/review/id.csv"]
    assert "review_sha256" not in take_stamp(tmp_path, "train", [DataInput("real", "data/real")]).tags
