"""dvc.lock and the stage graph of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers import small_project

from partsynth.errors import UserError
from partsynth.lineage.graph import (
    Stages,
    ancestors,
    covers,
    digest_of,
    makers,
    outputs,
    outside_dependencies,
    read_lock,
    running_stage,
    stage_graph,
)

STAGES: Stages = {
    "ingest": {"outs": [{"path": "data/real", "md5": "1.dir"}]},
    "render": {"outs": [{"path": "data/raw"}]},
    "generate": {
        "deps": [{"path": "data/real/train", "md5": "2.dir"}, {"path": "src/x.py", "md5": "3"}],
        "outs": [{"path": "data/augmented/id", "md5": "4.dir"}],
    },
    "select": {"deps": [{"path": "data/augmented", "md5": "5.dir"}], "outs": [{"path": "data/s.csv", "md5": "6"}]},
}


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_project.finished(tmp_path_factory.getbasetemp())


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [("a/b", "a/b", True), ("a/b", "a/b/c", True), ("a/b", "a/bc", False), ("a/b", "a", False)],
)
def test_a_path_covers_itself_and_what_is_below(outer: str, inner: str, expected: bool) -> None:
    assert covers(outer, inner) is expected


def test_makers_and_ancestors_are_found_through_folders_either_way() -> None:
    assert makers(STAGES, "data/real/train") == ["ingest"] and makers(STAGES, "data/augmented") == ["generate"]
    assert list(ancestors(STAGES, ["data/s.csv"])) == ["generate", "ingest", "select"]
    assert ancestors(STAGES, ["src/x.py"]) == {}


def test_digests_of_outputs_win_over_dependencies() -> None:
    assert outputs(STAGES) == {"data/real": "1.dir", "data/augmented/id": "4.dir", "data/s.csv": "6"}
    assert outside_dependencies(STAGES) == {"src/x.py": "3", "data/augmented": "5.dir"}
    assert digest_of(STAGES, "data/real") == "1.dir" and digest_of(STAGES, "src/x.py") == "3"
    assert digest_of(STAGES, "data/raw") is None and digest_of(STAGES, "nothing") is None


def test_a_missing_lock_is_empty_and_a_torn_one_is_named(tmp_path: Path) -> None:
    assert read_lock(tmp_path) == {}
    (tmp_path / "dvc.lock").write_text("")
    assert read_lock(tmp_path) == {}
    (tmp_path / "dvc.lock").write_text("stages: [")
    with pytest.raises(UserError, match=r"dvc\.lock is not valid YAML"):
        read_lock(tmp_path)


@pytest.mark.parametrize("stage", ["train@real-0", "dvc.yaml:tokens", "generate@id"])
def test_a_running_stage_has_the_entry_that_dvc_will_write(project: Path, stage: str) -> None:
    locked = dict(read_lock(project)[stage.removeprefix("dvc.yaml:")])
    found = running_stage(project, stage)
    assert found["outs"] == [] and found["cmd"] == locked["cmd"]
    assert found["deps"] == locked["deps"] and found["params"] == locked["params"]


def test_a_graph_is_of_this_moment_and_tells_what_disagrees(project: Path, tmp_path: Path) -> None:
    graph = stage_graph(project, "train@real_id-0", [])
    assert list(graph["stages"]) == sorted([*graph["stages"]]) and graph["disagree"] == []
    assert {"ingest", "generate@id", "select@real_id", "train@real_id-0"} <= graph["stages"].keys()
    assert not {"generate@near_ood", "train@real-0"} & graph["stages"].keys()
    of_inputs = stage_graph(project, None, ["data/augmented/near_ood"])
    assert of_inputs["stage"] is None and "generate@near_ood" in of_inputs["stages"]

    root = small_project.copy(project, tmp_path / "copy")
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    lock["stages"]["select@real_id"]["outs"][0]["md5"] = "0" * 32
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))
    (found,) = stage_graph(root, "train@real_id-0", [])["disagree"]
    assert (found["stage"], found["path"], found["output"]) == (
        "train@real_id-0",
        "data/selected/real_id.csv",
        "0" * 32,
    )


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"stages: [1]",
        b"stages: {a: null}",
        b"stages: {a: {outs: null}}",
        b"stages: {a: {params: {params.yaml: [1]}}}",
        b"stages: {a: {outs: [{path: 3}]}}",
        b"stages: {a: {outs: [{md5: x}]}}",
        b"stages: {a: {outs: [{path: x, md5: /etc/passwd}]}}",
        b"stages: {a: {deps: [{path: x, md5: ../../x.dir}]}}",
        b"\xff\xfes",
        b"a: [",
        b"[" * 100_000,  # takes the parser in C down, and the process with it
        b"- " * 100_000,
    ],
)
def test_a_damaged_lock_file_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "dvc.lock").write_bytes(data)
    with pytest.raises(UserError, match=r"dvc\.lock is (no|not valid)"):
        read_lock(tmp_path)
