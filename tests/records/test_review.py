"""Decisions in a file: what is a decision, which one counts, and who contradicts whom."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.rows import decision

from partsynth.errors import UserError
from partsynth.records.manifest import write_manifest
from partsynth.records.review import ReviewRecord, contradictions, decided, image_of, read_review
from partsynth.selection.reviewed import obeyed


def written(folder: Path, rows: list[ReviewRecord]) -> Path:
    write_manifest(folder / "id.csv", rows, ReviewRecord)
    return folder / "id.csv"


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [decision("a", "accept"), decision("b", "other_class", other_class="disc", reason='dark, "bent"')]
    path = written(tmp_path, rows)
    assert read_review(path) == rows
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))  # as a spreadsheet writes it
    assert read_review(path) == rows


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"decision": "maybe"}, "decision: Input should be 'accept', 'drop', 'other_class' or 'unsure'"),
        ({"other_class": "disc"}, "needs the decision other_class, not accept"),
        ({"decision": "other_class", "other_class": "gear"}, "own class 'gear': that is the decision accept"),
        ({"reviewer": "  "}, "reviewer: String should have at least 1 character"),
        ({"time": "2026-11-26T09:30:00"}, "has no offset from UTC"),
        ({"time": "yesterday"}, "time: "),
        ({"path": "../x.png"}, "is not a path with slashes below its manifest"),
    ],
)
def test_what_is_no_decision_is_named_by_line_and_column(tmp_path: Path, changes: dict, fault: str) -> None:
    row = decision("a", "accept").model_dump() | changes
    path = tmp_path / "id.csv"
    path.write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
    with pytest.raises(UserError, match="line 2") as error:
        read_review(path)
    assert fault in str(error.value)


def test_a_file_without_its_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("path,decision\na,accept\n")
    with pytest.raises(UserError, match="missing columns sha256, class_name, reviewer, time"):
        read_review(tmp_path / "x.csv")


def test_two_reviewers_contradict_each_other_by_firm_decisions_on_the_same_bytes() -> None:
    ann, ben = decision("a", "accept", reviewer="ann"), decision("a", "drop", reviewer="ben")
    assert contradictions([ann, ben]) == [f"{ann.path}: ann says accept, ben says drop"]
    assert contradictions([ann, decision("a", "unsure", reviewer="ben")]) == []
    assert contradictions([ann, ben.model_copy(update={"sha256": "older"})]) == []
    disc, cog = (decision("a", "other_class", reviewer=w, other_class=c) for w, c in (("ann", "disc"), ("ben", "cog")))
    unnamed = decision("a", "other_class", reviewer="carl")
    assert contradictions([disc, unnamed]) == []
    assert contradictions([disc, cog]) == [f"{disc.path}: ann says other_class (disc), ben says other_class (cog)"]


def test_a_file_with_a_contradiction_is_refused(tmp_path: Path) -> None:
    rows = [decision("a", "accept", reviewer="ann"), decision("a", "drop", reviewer="ben")]
    with pytest.raises(UserError, match="ann says accept, ben says drop"):
        read_review(written(tmp_path, rows))


def test_the_decision_that_counts_is_a_firm_one_with_the_class_named_the_first_of_its_kind() -> None:
    early, late = "2026-11-26T08:00:00Z", "2026-11-26T11:00:00+01:00"
    rows = [
        decision("a", "unsure", reviewer="ann", time=early),
        decision("a", "other_class", reviewer="ben", time=early),
        decision("a", "other_class", reviewer="carl", time=late, other_class="disc"),
        decision("b", "accept", reviewer="carl", time=late),
        decision("b", "accept", reviewer="ann", time="2026-11-26T10:30:00Z"),  # after carl's, by an hour's offset
    ]
    counts = decided(rows)
    assert {image[0][-5]: (d.reviewer, d.told) for image, d in counts.items()} == {
        "a": ("carl", "other_class (disc)"),
        "b": ("carl", "accept"),
    }


def test_a_decision_stays_with_its_image_when_the_set_goes_into_shards(tmp_path: Path) -> None:
    as_file = decision("a", "drop")
    folder = as_file.path.split("/gear/")[0]
    packed = as_file.model_copy(update={"path": f"{folder}/shard-00003.tar/gear/a.png"})
    assert as_file.path == f"{folder}/gear/a.png"
    assert packed.image == as_file.image and packed.key == as_file.key
    assert image_of(packed.model_copy(update={"sha256": "f" * 64})) != packed.image
    assert contradictions([as_file, packed.model_copy(update={"decision": "accept", "reviewer": "another"})])
    assert obeyed([as_file], [packed]) == {packed.path: as_file}
