"""Runs as an audit sees them: from MLflow, else from the run.json beside each model."""

from __future__ import annotations

import json
import shutil

import pytest
from helpers import small_project
from helpers.audits import runs_named

from partsynth.audit.runs import all_runs, find_run, recorded_graph
from partsynth.errors import UserError
from partsynth.lineage.graph import outputs


def test_a_run_is_found_by_id_or_name_and_knows_its_data(changed):
    first, second = runs_named(changed, "real_id-seed0")
    run = find_run(changed, first.run_id)
    assert run.stored == "MLflow" and run.name == "real_id-seed0" and run.commit == run.facts()["git_commit"]
    assert run.training_table == ("data/selected/real_id.csv", run.digest("data/selected/real_id.csv"))
    assert run.digest("data/augmented/id") != find_run(changed, second.run_id).digest("data/augmented/id")
    assert run.digest("data/augmented/near_ood") is None
    with pytest.raises(UserError, match="2 live runs are named real_id-seed0"):
        find_run(changed, "real_id-seed0")
    with pytest.raises(UserError, match="no run, alias or run name 'nobody'"):
        find_run(changed, "nobody")


def test_earlier_runs_are_all_there_and_the_oldest_is_first(changed):
    runs = all_runs(changed)
    assert [run.name for run in runs].count("real_id-seed0") == 2 and len(runs) == 5
    times = [run.run_id for run in runs if run.name == "real_id-seed0"]
    assert times == [run.run_id for run in runs_named(changed, "real_id-seed0")]


def test_without_a_store_run_json_tells_the_same(changed, tmp_path):
    root = small_project.copy(changed, tmp_path / "copy")
    known = find_run(root, "real-seed0")
    (root / "mlflow.db").unlink()
    shutil.rmtree(root / "mlartifacts")
    torn = root / "models/supcon/real_id/0/run.json"
    torn.unlink()
    torn.write_text("{")
    run = find_run(root, "real-seed0")
    assert run.stored == "models/supcon/real/0/run.json" and run.inputs == known.inputs
    assert recorded_graph(root, run) == recorded_graph(changed, known)
    assert {run.name for run in all_runs(root)} == {"real-seed0", "real_id_negatives-seed0"}
    assert not (root / "mlflow.db").exists()


def test_a_graph_is_trusted_only_as_it_was_recorded(changed, tmp_path):
    root = small_project.copy(changed, tmp_path / "copy")
    (root / "mlflow.db").unlink()
    path = root / "models/supcon/real/0/run.json"
    record = json.loads(path.read_text())
    path.unlink()
    assert "data/real" in outputs(record["lineage"]["stages"])
    record["lineage"]["stages"]["ingest"]["outs"][0]["md5"] = "0" * 32 + ".dir"
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="its stage graph was altered"):
        recorded_graph(root, find_run(root, "real-seed0"))
    record["tags"]["lineage"] = "absent: not a DVC repository"
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="stage graph was altered"):
        recorded_graph(root, find_run(root, "real-seed0"))
