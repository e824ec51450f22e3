"""Decisions from a file into the sets' tables: all or none, each fault in one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from helpers.audits import flip, tree
from helpers.cli import run
from helpers.reviewed_project import verdicts
from helpers.rows import decision

from partsynth.errors import UserError
from partsynth.records.manifest import write_manifest
from partsynth.records.review import ReviewRecord, read_review
from partsynth.records.rows import VerdictRecord
from partsynth.review.apply import Applied, apply, told

Apply = Callable[..., list[Applied]]


def about(image: VerdictRecord, what: str, **changes: str) -> ReviewRecord:
    known = {"path": image.path, "sha256": image.sha256, "class_name": image.class_name}
    return decision("x", what, **(known | changes))


@pytest.fixture
def applied(project: Path, tmp_path: Path) -> Apply:
    """Applies rows as a page's file, in whatever order they come."""

    def go(*rows: ReviewRecord, overrule: bool = False) -> list[Applied]:
        lines = [",".join(ReviewRecord.columns()), *(",".join(row.model_dump().values()) for row in rows)]
        (tmp_path / "page.csv").write_text("\n".join(lines) + "\n")
        return apply(project, tmp_path / "page.csv", overrule)

    return go


def select_of(root: Path) -> dict:
    return yaml.safe_load((root / "dvc.yaml").read_text())["stages"]["select"]["foreach"]


def test_each_set_gets_its_table_and_its_setups_obey_it(project: Path, applied: Apply) -> None:
    before = (project / "dvc.yaml").read_text()
    first, second, *_ = verdicts(project)
    negative = verdicts(project, "near_ood")[0]
    done = applied(
        about(second, "drop"), about(negative, "accept"), about(first, "other_class", other_class="shaft_t1")
    )
    assert read_review(project / "data/review/id.csv") == [
        about(first, "other_class", other_class="shaft_t1"),
        about(second, "drop"),
    ]
    assert [row.path for row in read_review(project / "data/review/near_ood.csv")] == [negative.path]
    entries = select_of(project)
    assert {name: entry["review"] for name, entry in entries.items()} == {
        "real": "data/review/none.csv",
        "real_id": "data/review/id.csv",
        "real_id_negatives": "data/review/near_ood.csv",
    }
    after = before.replace("verdicts: data/quality/id.csv\n        review: data/review/none.csv", "X")
    assert len(after) < len(before)
    changed = [
        a for a, b in zip(before.splitlines(), (project / "dvc.yaml").read_text().splitlines(), strict=True) if a != b
    ]
    assert [line.strip() for line in changed] == ["review: data/review/none.csv"] * 2  # comments and all else stay
    lines = told(project, done)
    assert lines[0] == ("data/review/id.csv: 2 decisions (1 drop, 1 other_class); 2 new, 0 changed; obeyed by real_id")
    assert lines[-1].endswith(
        "git add data/review/id.csv data/review/near_ood.csv data/review/none.csv dvc.yaml && git commit"
    )


def test_a_set_that_no_setup_adds_is_kept_for_the_report(project: Path, applied: Apply) -> None:
    before = (project / "dvc.yaml").read_text()
    (done,) = applied(about(verdicts(project, "far_ood")[0], "drop"))
    assert done.setups == [] and "no setup of dvc.yaml adds this set" in done.lines(project)[0]
    assert (project / "dvc.yaml").read_text() == before


def test_a_control_that_was_told_to_obey_no_review_stays_so(project: Path, applied: Apply) -> None:
    first, second, *_ = verdicts(project)
    applied(about(first, "drop"))
    graph = yaml.safe_load((project / "dvc.yaml").read_text())
    entries = graph["stages"]["select"]["foreach"]
    entries["control"] = entries["real_id"] | {"review": "data/review/none.csv"}
    (project / "dvc.yaml").write_text(yaml.safe_dump(graph))
    applied(about(second, "drop"))
    assert select_of(project)["control"]["review"] == "data/review/none.csv"


def test_a_project_of_before_reviews_learns_of_them(project: Path, applied: Apply) -> None:
    graph = yaml.safe_load((project / "dvc.yaml").read_text())
    select, report = graph["stages"]["select"], graph["stages"]["report"]
    for entry in select["foreach"].values():
        del entry["review"]
    select["do"]["cmd"] = select["do"]["cmd"].replace(" --review ${item.review}", "")
    select["do"]["deps"].remove("${item.review}")
    report["cmd"] = report["cmd"].replace(" --review data/review", "")
    report["deps"].remove("data/review")
    (project / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    shutil.rmtree(project / "data/review")
    applied(about(verdicts(project)[0], "drop"))
    graph = yaml.safe_load((project / "dvc.yaml").read_text())
    select, report = graph["stages"]["select"], graph["stages"]["report"]
    assert "--review ${item.review}" in select["do"]["cmd"] and "${item.review}" in select["do"]["deps"]
    assert "--review data/review" in report["cmd"] and "data/review" in report["deps"]
    assert [e["review"].split("/")[-1] for e in select["foreach"].values()] == ["none.csv", "id.csv", "none.csv"]
    assert (project / "data/review/none.csv").is_file()


def test_a_later_decision_of_the_same_reviewer_takes_the_earlier_ones_place(project: Path, applied: Apply) -> None:
    first, second, third, *_ = verdicts(project)
    applied(about(first, "drop"), about(second, "drop"), about(third, "unsure", reviewer="ben"))
    (done,) = applied(about(first, "accept", time="2026-11-27T09:00:00Z"), about(second, "drop"))
    assert (done.new, done.changed) == (0, 1)
    kept = {(r.path, r.reviewer): r.decision for r in read_review(project / "data/review/id.csv")}
    assert kept == {(first.path, "ann"): "accept", (second.path, "ann"): "drop", (third.path, "ben"): "unsure"}
    # within one file too, whatever the order of its lines
    applied(about(first, "unsure", time="2026-11-28T10:00:00Z"), about(first, "drop", time="2026-11-28T09:00:00+00:00"))
    assert read_review(project / "data/review/id.csv")[0].decision == "unsure"


def test_two_reviewers_who_agree_are_both_kept(project: Path, applied: Apply) -> None:
    first = verdicts(project)[0]
    applied(about(first, "drop"))
    applied(about(first, "drop", reviewer="ben"))
    assert [r.reviewer for r in read_review(project / "data/review/id.csv")] == ["ann", "ben"]


def refused(project: Path, applied: Apply, *rows: ReviewRecord) -> str:
    before = tree(project)
    with pytest.raises(UserError) as error:
        applied(*rows)
    assert tree(project) == before  # nothing was written, not of the sound decisions either
    return str(error.value)


def test_reviewers_who_contradict_each_other_must_settle_it(project: Path, applied: Apply) -> None:
    first, second, *_ = verdicts(project)
    applied(about(first, "drop"), about(second, "drop"))
    ben = [about(first, "accept", reviewer="ben"), about(second, "unsure", reviewer="ben")]
    fault = refused(project, applied, *ben)
    assert f"{first.path}: ann says drop, ben says accept" in fault and "--overrule" in fault
    assert second.path not in fault
    (done,) = applied(*ben, overrule=True)
    assert done.overruled == 1
    kept = {(r.path, r.reviewer): r.decision for r in read_review(project / "data/review/id.csv")}
    assert kept == {(first.path, "ben"): "accept", (second.path, "ann"): "drop", (second.path, "ben"): "unsure"}


def test_a_file_of_two_reviewers_who_contradict_each_other_is_refused(project: Path, applied: Apply) -> None:
    first = verdicts(project)[0]
    both = about(first, "drop"), about(first, "accept", reviewer="ben")
    assert f"{first.path}: ann says drop, ben says accept" in refused(project, applied, *both)
    with pytest.raises(UserError, match="ann says drop"):
        applied(*both, overrule=True)


def test_every_fault_of_a_file_is_named_and_nothing_written(project: Path, applied: Apply) -> None:
    first, second, third, fourth, *_ = verdicts(project)
    flip(project / third.path)
    fault = refused(
        project,
        applied,
        about(first, "drop"),
        about(second, "drop", sha256="older"),
        about(third, "accept"),
        about(fourth, "other_class", other_class="shaft_t"),
        about(first, "drop", path="data/augmented/id/gear_t6/none.png"),
        about(first, "drop", path="data/real/train/gear_t6/000.png"),
        about(first, "accept", path="data/augmented/gone/gear_t6/000.png"),
    )
    assert "6 fault(s)" in fault and first.path not in fault
    assert f"{second.path} was made anew since it was reviewed (other bytes): review it again" in fault
    assert f"{third.path} is missing or altered here" in fault
    assert f"{fourth.path}: there is no class 'shaft_t', did you mean shaft_t" in fault
    for path in ("augmented/id/gear_t6/none.png", "real/train/gear_t6/000.png", "augmented/gone/gear_t6/000.png"):
        assert f"data/{path} ({first.class_name}) is no image of any set here" in fault


def test_a_decision_on_other_bytes_gives_way_to_one_on_the_present_ones(project: Path, applied: Apply) -> None:
    first, second, *_ = verdicts(project)
    stale = [about(v, "accept", reviewer="ben", sha256="older") for v in (first, second)]
    write_manifest(project / "data/review/id.csv", stale, ReviewRecord)
    applied(about(first, "drop"))
    assert read_review(project / "data/review/id.csv") == [about(first, "drop"), stale[1]]


def test_an_empty_file_and_a_missing_one_are_told(project: Path, applied: Apply, tmp_path: Path, monkeypatch) -> None:
    assert "holds no decision" in refused(project, applied)
    monkeypatch.chdir(project)
    code, _, errors = run("review", "apply", str(tmp_path / "none.csv"))
    assert code == 1 and "none.csv: no such file" in errors and "Traceback" not in errors
