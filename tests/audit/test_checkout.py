"""The data of a run, checked out by hash."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import small_project
from helpers.audits import PARENT, runs_named, tree

from partsynth.audit.checkout import checkout_run
from partsynth.audit.present import present
from partsynth.audit.source import trace_source
from partsynth.errors import UserError
from partsynth.lineage.objects import Objects
from partsynth.tracking import store
from partsynth.tracking.query import get_run
from partsynth.tracking.registry import register_model


def test_the_first_run_s_data_comes_back_byte_for_byte(project, changed, tmp_path):
    first, second = runs_named(changed, "real_id-seed0")
    result = checkout_run(changed, first.run_id, tmp_path / "out")
    assert result.faults == []
    restored = tree(tmp_path / "out")
    for part in ("data/real", "data/ood", "data/augmented/id", "models/tokens"):
        assert tree(tmp_path / "out" / part) == tree(project / part)
    assert restored["data/selected/real_id.csv"] == (project / "data/selected/real_id.csv").read_bytes()
    assert restored["params.yaml"] == (project / "params.yaml").read_bytes()
    assert "data/augmented/near_ood" not in {str(Path(name).parent) for name in restored}  # the run never saw it
    assert tree(tmp_path / "out/data/augmented/id") != tree(changed / "data/augmented/id")
    assert {d["path"]: d["workspace"] for d in result.data["not_checked_out"]} == {
        "models/base": "the same",
        "pipeline.py": "the same",
    }
    again = checkout_run(changed, second.run_id, tmp_path / "second")
    assert again.faults == [] and tree(tmp_path / "second/data/augmented/id") == tree(changed / "data/augmented/id")
    with pytest.raises(UserError, match="is not empty"):
        checkout_run(changed, first.run_id, tmp_path / "out")


def test_a_checkout_that_cannot_be_whole_leaves_nothing(changed, tmp_path):
    root = small_project.copy(changed, tmp_path / "copy")
    first = runs_named(root, "real_id-seed0")[0]
    digest = next(item.digest for item in first.inputs if item.path == "data/augmented/id")
    with Objects(root) as objects:
        lost = objects.path(objects.listing(digest)["gear_a/00-1.png"])
    lost.unlink()
    result = checkout_run(root, first.run_id, tmp_path / "out")
    assert any("00-1.png" in fault.message and lost.name in fault.message for fault in result.faults)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()
    assert present(result, as_json=True) == 1


def test_an_altered_stage_graph_is_refused(changed, tmp_path):
    root = small_project.copy(changed, tmp_path / "copy")
    run = runs_named(root, "real-seed0")[0]
    store.client(root).set_tag(run.run_id, "lineage_sha256", "0" * 64)
    with pytest.raises(UserError, match="stage graph was altered"):
        checkout_run(root, run.run_id, tmp_path / "out")
    with pytest.raises(UserError, match="no run, alias or run name 'nobody'"):
        checkout_run(root, "nobody", tmp_path / "out")


def test_a_run_is_found_by_alias(copied, tmp_path):
    run = get_run(copied, "real_id-seed0")
    register_model(copied, run.run_id, "# Card", alias="champion")
    result = checkout_run(copied, "champion", tmp_path / "out")
    assert result.faults == [] and result.data["run"]["run_id"] == run.run_id
    (affected,) = [r for r in trace_source(copied, PARENT).data["runs"] if r["run_id"] == run.run_id]
    assert affected["registered"] == ["partsynth v1 @champion"]
