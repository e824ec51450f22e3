"""Projects, stores and manifests made before the redesign (commit f5688eb) still answer every audit."""

from __future__ import annotations

import shutil

import pytest
from helpers import audits, small_project
from helpers.audits import IMAGE, PARENT, runs_named

from partsynth.audit.checkout import checkout_run
from partsynth.audit.diff import diff_runs
from partsynth.audit.image import trace_image
from partsynth.audit.push import push_runs
from partsynth.audit.source import trace_source
from partsynth.audit.verify import verify
from partsynth.lineage.digests import path_md5
from partsynth.lineage.graph import outputs, read_lock
from partsynth.tracking.query import find_runs

FIRST = "189026d7d865a3c6b4e72ae7d6b265178895aea81b50bb303310c94fd941c9d2"  # sha256 of IMAGE before the second repro
CODE = ["src/partsynth/kernel/diffusion.py", "src/partsynth/steps/generate.py"]


@pytest.fixture
def old(tmp_path):
    return audits.old_project(tmp_path)


@pytest.fixture
def moved_on(old):
    """The same after the redesign: the code that the stages named lies elsewhere."""
    shutil.rmtree(old / "src")
    return old


def test_the_workspace_passes(old):
    result = verify(old)
    assert result.faults == []
    assert result.data["checked"]["augmented"] == 32 and result.data["checked"]["stages"] == 14


def test_code_that_moved_away_is_named_and_nothing_else(moved_on):
    assert {fault.path for fault in verify(moved_on).faults} == set(CODE)


def test_runs_are_checked_out(moved_on, tmp_path):
    for i, run in enumerate(find_runs(moved_on)):
        result = checkout_run(moved_on, run.run_id, tmp_path / f"{i}")
        assert result.faults == []
        outside = {entry["path"]: entry for entry in result.data["not_checked_out"]}
        if run.name == "real-seed0":
            assert not outside.keys() & set(CODE)
        else:
            assert {(outside[path]["workspace"], outside[path]["commit"]) for path in CODE} == {("missing", "the same")}
    _, second = runs_named(moved_on, "real_id_negatives-seed0")
    checkout_run(moved_on, second.run_id, tmp_path / "last")
    locked = outputs(read_lock(moved_on))
    for path in ("data/real", "data/augmented/id", "data/augmented/near_ood", "models/tokens"):
        assert path_md5(tmp_path / "last" / path) == locked[path]


def test_an_image_is_traced_now_and_before(moved_on):
    now = trace_image(moved_on, IMAGE)
    assert now.faults == [] and now.data["picture"]["method"] == "sdedit" and now.data["picture"]["strength"] == 0.3
    assert now.data["photograph"]["framed"] == PARENT and PARENT in now.data["token"]["learned_from"]
    before = trace_image(moved_on, FIRST)
    assert before.faults == [] and before.data["picture"]["strength"] == 0.2
    assert before.data["found_in"].startswith("run ")
    assert [run["name"] for run in before.data["runs"]] == ["real_id-seed0", "real_id_negatives-seed0"]
    assert not {run["run_id"] for run in before.data["runs"]} & {run["run_id"] for run in now.data["runs"]}


def test_what_came_of_a_photograph_is_found(moved_on):
    result = trace_source(moved_on, PARENT)
    assert result.faults == []
    assert len(result.data["synthetic"]) == 6 and len(result.data["tokens"]) == 1
    uses = [(run["name"], run["trained_on_pictures_of_a_token_it_taught"]) for run in result.data["runs"]]
    assert uses == [("real-seed0", 0)] + 2 * [("real_id-seed0", 8), ("real_id_negatives-seed0", 16)]


def test_runs_are_compared(moved_on):
    first, second = runs_named(moved_on, "real_id-seed0")
    result = diff_runs(moved_on, first.run_id, second.run_id)
    assert result.faults == []
    assert result.data["parameters"] == {"sets.id.strength": {"first": 0.2, "second": 0.3}}
    assert len(result.data["training_pictures"]["changed"]) == 16
    code = diff_runs(moved_on, "real-seed0", second.run_id).data["code"]
    assert set(CODE) < set(code["dependencies of the second alone"]) and code["dependencies changed"] == []


def test_runs_are_pushed(moved_on, tmp_path):
    small_project.dvc(moved_on, "remote", "add", "-d", "store", str(tmp_path / "remote"))
    result = push_runs(moved_on)
    assert result.faults == [] and result.data["runs"] == 5 and result.data["sent"] > result.data["objects"]
    shutil.rmtree(moved_on / ".dvc/cache")
    first, _ = runs_named(moved_on, "real_id-seed0")
    assert checkout_run(moved_on, first.run_id, tmp_path / "out").faults == []
