"""People's decisions in audits: of one image, in any version, and against the training tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.audits import IMAGE, faults
from helpers.rows import augmented, decision, real_row

from partsynth.audit.image import trace_image
from partsynth.audit.reviews import check_reviews, decisions_on
from partsynth.audit.runs import RunRecord
from partsynth.audit.verify import verify
from partsynth.audit.versions import version_of
from partsynth.audit.workspace import Workspace
from partsynth.errors import UserError
from partsynth.lineage.digests import md5_bytes
from partsynth.records.manifest import write_manifest
from partsynth.records.review import ReviewRecord
from partsynth.records.rows import SelectedRecord
from partsynth.selection.table import selected
from partsynth.store.hashing import fingerprint, sha256_bytes, sha256_file

SOURCE = real_row("gear/0", "train", "gear-0")
EDITS = [augmented(SOURCE, f"{i}") for i in range(4)]
REVIEW, TABLE = "data/review/id.csv", "data/selected/real_id.csv"
NO_OBJECTS: Any = object()  # none is read


def test_an_image_shows_what_people_decided(copied: Path) -> None:
    told = decision("x", "drop", path=IMAGE, sha256=sha256_file(copied / IMAGE), class_name="gear_a", reason="bent")
    older = told.model_copy(update={"sha256": "0" * 64, "reviewer": "ben"})
    assert "review" not in trace_image(copied, IMAGE).data
    write_manifest(copied / REVIEW, [told, older], ReviewRecord)
    result = trace_image(copied, IMAGE)
    assert result.faults == []
    assert result.data["review"] == [
        {"decision": "drop", "other_class": "", "reviewer": "ann", "time": "2026-11-26T09:30:00Z", "reason": "bent"}
    ]


def test_a_review_that_nobody_obeys_yet_is_counted_and_a_damaged_one_named(copied: Path) -> None:
    told = decision("x", "drop", path=IMAGE, sha256=sha256_file(copied / IMAGE), class_name="gear_a")
    write_manifest(copied / REVIEW, [told, told.model_copy(update={"path": IMAGE + "x"})], ReviewRecord)
    result = verify(copied)
    assert result.faults == []
    checked = result.data["checked"]
    assert checked["decisions"] == 2 and checked["decisions on other bytes, not obeyed"] == 1
    (copied / REVIEW).write_text((copied / REVIEW).read_text().replace(",drop,", ",dorp,"))
    assert "Input should be 'accept', 'drop'" in faults(verify(copied))[REVIEW]


def checked(root: Path, decisions: list[ReviewRecord], role: str = "positive", obeyed: bool = True) -> dict[str, str]:
    """Faults of a training table that holds all edits, of a stage that obeyed these decisions (or others)."""
    write_manifest(root / REVIEW, decisions, ReviewRecord)
    write_manifest(root / TABLE, [selected(row, role) for row in EDITS], SelectedRecord)
    md5 = md5_bytes((root / REVIEW).read_bytes()) if obeyed else "0" * 32
    stage = {
        "deps": [{"path": "data/real", "md5": "x"}, {"path": REVIEW, "md5": md5}],
        "params": {"params.yaml": {"select.real_id": {"role": role, "rule": "all"}}},
        "outs": [{"path": TABLE, "md5": "x"}],
    }
    synthetic = {row.path: row for row in EDITS}
    _, found = check_reviews(Workspace(root), {"select@real_id": stage}, synthetic, {"gear", "disc"})
    return {fault.path: fault.message for fault in found}


def test_a_table_that_holds_what_people_kept_out_is_a_fault(tmp_path: Path) -> None:
    told = [decision(row, what) for row, what in zip(EDITS, ("accept", "drop", "other_class", "unsure"), strict=True)]
    said = {path.rpartition("/")[2]: message for path, message in checked(tmp_path, told).items()}
    assert said == {
        "1.png": f"is selected in {TABLE}, and ann says drop in {REVIEW}",
        "2.png": f"is selected in {TABLE}, and ann says other_class in {REVIEW}",
    }
    assert {p.rpartition("/")[2] for p in checked(tmp_path, told, role="negative")} == {"0.png", "1.png"}
    stale = [row.model_copy(update={"sha256": "older"}) for row in told]
    assert checked(tmp_path, stale) == {} == checked(tmp_path, told, obeyed=False)


def test_decisions_on_images_of_another_set_and_on_unknown_classes_are_faults(tmp_path: Path) -> None:
    other = decision(augmented(SOURCE, "0", set_name="far"), "unsure")
    assert checked(tmp_path, [other]) == {REVIEW: f"{other.path} is no image of set id"}
    named = decision(EDITS[0], "other_class", other_class="cog")
    assert "there is no class 'cog'" in checked(tmp_path, [named])[REVIEW]


def test_a_runs_own_copy_says_what_was_decided_then(tmp_path: Path) -> None:
    """The workspace may have another table since; a run without an MLflow store has the copy in its record."""
    row = EDITS[0]
    write_manifest(tmp_path / REVIEW, [decision(row, "drop")], ReviewRecord)
    kept = (tmp_path / REVIEW).read_bytes()
    graph = {"stages": {}, "disagree": [], "files": {REVIEW: sha256_bytes(kept)}}
    write_manifest(tmp_path / REVIEW, [decision(row, "accept")], ReviewRecord)

    def run(text: str) -> RunRecord:
        sha256 = sha256_bytes((json.dumps(graph, indent=1, sort_keys=True) + "\n").encode())
        tags = {"lineage_sha256": sha256, "lineage": "complete"}
        record = {"lineage": graph, "files": {REVIEW: text}}
        return RunRecord(fingerprint(text), "x", "FINISHED", True, tags, (), "run.json", record)

    assert [d["decision"] for d in decisions_on(version_of(tmp_path, NO_OBJECTS, run(kept.decode())), row)] == ["drop"]
    with pytest.raises(UserError, match=r"the copy of data/review/id\.csv kept with run \w+ is missing or altered"):
        decisions_on(version_of(tmp_path, NO_OBJECTS, run("")), row)
