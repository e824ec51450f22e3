"""Which setups obey which review: in dvc.yaml, and by DVC itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from helpers import in_process, reviewed_project
from helpers.audits import tree
from helpers.reviewed_project import verdicts
from helpers.rows import decision

from partsynth.project.findings import Findings
from partsynth.project.reviews import check_reviews, connect, obeying, using
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.review import ReviewRecord
from partsynth.records.rows import SelectedRecord
from partsynth.review.apply import apply

SETUPS = ("real", "real_id", "real_id_negatives")


@pytest.fixture
def graph_alone(tmp_path: Path) -> Path:
    select = {"foreach": {"real_id": {"manifest": "data/augmented/id/manifest.csv", "review": "data/review/none.csv"}}}
    stages = {"select": select | {"do": {"cmd": "x --review ${item.review}", "deps": ["${item.review}"]}}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    return tmp_path


def test_a_set_is_connected_once_and_told_of_ever_after(graph_alone: Path) -> None:
    assert connect(graph_alone, "id") == ["real_id"] and connect(graph_alone, "other") == []
    after = (graph_alone / "dvc.yaml").read_text()
    graph = yaml.safe_load(after)
    assert obeying(graph, "id") == using(graph, "id") == ["real_id"] and using(graph, "other") == []
    assert connect(graph_alone, "id") == ["real_id"] and (graph_alone / "dvc.yaml").read_text() == after


def test_check_names_reviews_that_nobody_obeys_or_that_cannot_be_read(graph_alone: Path) -> None:
    def found() -> Findings:
        findings = Findings()
        check_reviews(graph_alone, findings)
        return findings

    assert found() == Findings()
    table = graph_alone / "data/review/id.csv"
    write_manifest(table, [decision("a", "drop")], ReviewRecord)
    (fault,) = found().faults
    assert fault == "data/review/id.csv is obeyed by no setup: name it as `review` of real_id in dvc.yaml's select"
    connect(graph_alone, "id")
    assert found() == Findings(["data/review/id.csv: 1 decisions"])
    table.write_text(table.read_text().replace(",drop,", ",dorp,"))
    (fault,) = found().faults
    assert "data/review/id.csv has faulty rows" in fault and "'dorp'" not in found().in_order
    (graph_alone / "dvc.yaml").unlink()
    assert found() == Findings()  # told of elsewhere


# --- by DVC ---------------------------------------------------------------------------------------------------------


def ran(root: Path) -> list[str]:
    """The stages that `dvc repro` runs, in name order."""
    done = in_process.dvc(root, "repro")
    assert done.code == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return sorted(done.stages)


@pytest.fixture
def tracked(tmp_path: Path) -> Path:
    """A git + DVC project with the package's own dvc.yaml from `select` on: dependencies as they are, `select` itself,
    and copies in place of what trains, evaluates and reports."""
    root = reviewed_project.make(tmp_path / "parts")
    graph = yaml.safe_load((root / "dvc.yaml").read_text())
    stages = {name: graph["stages"][name] for name in ("select", "train", "evaluate", "report")}
    for name, step in stages.items():
        inner = step.get("do", step)
        inner["params"] = [p for p in inner.get("params", []) if isinstance(p, str)]
        inner["deps"] = [d for d in inner["deps"] if "adapted" not in d and "quality" not in d.split("/")[0]]
        if name != "select":
            inner["outs"], inner["metrics"] = [f"made/{name}"], []
    table = "data/selected/${item.setup}.csv"
    model = "models/supcon/${item.setup}/${item.seed}"
    stages["train"] |= {"cmd": f"mkdir -p models/supcon/${{item.setup}} && cp {table} {model}", "outs": [model]}
    stages["evaluate"]["cmd"] = "mkdir -p made && cat models/supcon/*/* > made/evaluate"
    kept = ("data/augmented", "data/quality", "data/real", "data/review")
    stages["report"] |= {"cmd": "cat made/evaluate data/review/*.csv > made/report  # --review data/review"}
    stages["report"]["deps"] = [*(d for d in stages["report"]["deps"] if d in kept), "made/evaluate"]
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["matrix"] = {"setups": list(SETUPS), "seeds": [0]}
    params["select"]["real_id_negatives"] = {"role": "negative", "rule": "band", "band": [0.95, 1.0]}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    ignored = "/data/real\n/data/ood\n/data/augmented\n/data/quality\n/data/selected\n/models\n/made\n.work/\n"
    (root / ".gitignore").write_text(ignored)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    assert in_process.dvc(root, "init", "-q").code == 0
    for command in (["git", "add", "-A"], ["git", "commit", "-qm", "start"]):
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    return root


@pytest.mark.slow
def test_a_review_reruns_the_setups_of_its_set_and_those_after_them_and_nothing_else(
    tracked: Path, tmp_path: Path
) -> None:
    def reviewing(*rows: ReviewRecord) -> None:
        write_manifest(tmp_path / "page.csv", list(rows), ReviewRecord)
        apply(tracked, tmp_path / "page.csv")

    def about(set_name: str, place: int, what: str) -> ReviewRecord:
        image = verdicts(tracked, set_name)[place]
        return decision("x", what, path=image.path, sha256=image.sha256, class_name=image.class_name)

    everything = [*(f"{stage}@{s}{'-0' * (stage == 'train')}" for stage in ("select", "train") for s in SETUPS)]
    assert ran(tracked) == sorted([*everything, "evaluate", "report"]) and ran(tracked) == []
    before = tree(tracked / "data/selected")
    # the second setup's set: from there on
    dropped = about("id", 0, "drop")
    reviewing(dropped, about("id", 1, "accept"))
    later = [stage for stage in everything if "@real_id" in stage]
    assert ran(tracked) == sorted([*later, "evaluate", "report"])
    after = tree(tracked / "data/selected")
    assert after["real.csv"] == before["real.csv"] and dropped.path in before["real_id.csv"].decode()
    for setup in SETUPS[1:]:
        rows = {r.path for r in read_manifest(tracked / f"data/selected/{setup}.csv", SelectedRecord)}
        assert dropped.path not in rows
        assert len(before[f"{setup}.csv"].splitlines()) - len(after[f"{setup}.csv"].splitlines()) == 1
    # a decision that changes no table trains nothing
    reviewing(about("id", 2, "unsure"))
    assert ran(tracked) == ["report", "select@real_id"]
    # the last setup's set: that alone
    flagged = next(i for i, v in enumerate(verdicts(tracked, "near_ood")) if v.reasons == "drift" and v.percentile < 1)
    reviewing(about("near_ood", flagged, "accept"))
    last = ["select@real_id_negatives", "train@real_id_negatives-0"]
    assert ran(tracked) == sorted([*last, "evaluate", "report"])
    assert tree(tracked / "data/selected")["real_id.csv"] == after["real_id.csv"]
    # and a clone has all of it by git alone
    subprocess.run(["git", "add", "-A"], cwd=tracked, check=True)
    subprocess.run(["git", "commit", "-qm", "reviewed"], cwd=tracked, check=True)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", os.fspath(tracked), os.fspath(clone)], check=True, capture_output=True)
    assert tree(clone / "data/review") == tree(tracked / "data/review")
    assert set(tree(clone / "data/review")) == {"id.csv", "near_ood.csv", "none.csv"}
