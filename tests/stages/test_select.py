"""The stage: tables and manifests in, one table out. Rules and leaks are tested in tests/selection."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from helpers.rows import augmented, decision, real_row, verdict

from partsynth.augmentation.methods.sdedit import SdeditRecord
from partsynth.config.training import SelectSetup
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.review import ReviewRecord
from partsynth.records.rows import RealRecord, SelectedRecord, VerdictRecord
from partsynth.stages import select

SETUP = SelectSetup(role="positive", rule="accepted")
ALL = SelectSetup(rule="all")
REAL = [
    *(real_row(f"{kind}/{i}", "train", f"{kind}-{i}") for kind in ("gear", "disc") for i in range(3)),
    real_row("gear/7", "val", "gear-7"),
    real_row("gear/8", "test", "gear-8"),
]


def edit(parent: RealRecord, variant: int, **changes) -> SdeditRecord:
    return augmented(parent, f"{Path(parent.path).stem}_{variant}", variant=variant, **changes)


EDITS = [edit(source, v) for source in REAL[:6] for v in range(2)]


def run(
    params: SelectSetup, setup: str, onto: Path | None, manifest: Path, verdicts: Path | None, out: Path, real: Path
) -> None:
    select.run(
        select.Inputs(params=params, setup=setup, onto=onto, manifest=manifest, verdicts=verdicts, out=out, real=real)
    )


@pytest.fixture
def go(tmp_path):
    def go(params: SelectSetup, edits=EDITS, verdicts=None, real=REAL) -> list[SelectedRecord]:
        write_manifest(tmp_path / "real.csv", real, RealRecord)
        write_manifest(tmp_path / "id.csv", edits, SdeditRecord)
        if verdicts is not None:
            write_manifest(tmp_path / "verdicts.csv", verdicts, VerdictRecord)
        run(ALL, "real", None, tmp_path / "real.csv", None, tmp_path / "s.csv", tmp_path / "real.csv")
        told = None if verdicts is None else tmp_path / "verdicts.csv"
        out = tmp_path / "x.csv"
        run(params, "x", tmp_path / "s.csv", tmp_path / "id.csv", told, out, tmp_path / "real.csv")
        rows = read_manifest(out, SelectedRecord)
        assert [r.path for r in rows if r.origin == "real"] == sorted(r.path for r in REAL if r.split == "train")
        return [r for r in rows if r.origin != "real"]

    return go


def test_real_takes_the_training_images_alone(go, tmp_path):
    go(ALL)
    rows = read_manifest(tmp_path / "s.csv", SelectedRecord)
    assert [(r.path, r.role, r.origin, r.source) for r in rows] == sorted(
        (r.path, "positive", "real", r.path) for r in REAL if r.split == "train"
    )


def test_a_folder_stands_for_none(go, tmp_path):
    go(ALL)
    before = (tmp_path / "s.csv").read_bytes()
    real = tmp_path / "real.csv"
    run(ALL, "real", tmp_path, real, tmp_path, tmp_path / "s.csv", real)
    assert (tmp_path / "s.csv").read_bytes() == before


def test_accepted_leaves_the_dropped_out_and_keeps_warnings(go):
    verdicts = [verdict(e, 0.1 * i, ("accept", "warn", "drop")[i % 3]) for i, e in enumerate(EDITS[:10])]
    verdicts += [verdict(e, 1.0, "drop", "drift") for e in EDITS[10:]]
    taken = go(SETUP, verdicts=verdicts)
    assert {r.path for r in taken} == {v.path for v in verdicts if v.verdict != "drop"}
    assert {r.path: r.percentile for r in taken} == {v.path: v.percentile for v in verdicts if v.verdict != "drop"}
    assert {(r.role, r.origin, r.state) for r in taken} == {("positive", "id", "rusty")}


def test_nothing_left_says_so_and_goes_on(go, capsys):
    assert go(SETUP, verdicts=[verdict(e, 1.0, "drop", "drift") for e in EDITS]) == []
    assert "leaves none of 12 images" in capsys.readouterr().out
    assert go(SETUP, edits=[], verdicts=[]) == []


def test_leaks_are_refused(go, tmp_path):
    everything = SelectSetup(rule="all")
    for bad, reason in (
        (edit(REAL[6], 0), "its source data/real/val/gear/7.png is no training image"),
        (edit(REAL[0], 9, source="data/real/train/gear/gone.png"), "is no training image"),
        (
            edit(REAL[0], 9, class_name="disc", path="data/augmented/id/disc/0_9.png"),
            "class and group are disc, gear-0",
        ),
        (edit(REAL[0], 9, class_name="disc"), "lies in the folder of 'gear', its class_name is 'disc'"),
    ):
        with pytest.raises(UserError, match=reason):
            go(everything, edits=[*EDITS, bad])
        assert not (tmp_path / "x.csv").exists()
    with pytest.raises(UserError, match="its group gear-0 is also in test"):
        go(everything, real=[*REAL, real_row("disc/9", "test", "gear-0")])
    with pytest.raises(UserError, match="selected twice"):
        go(everything, edits=[edit(REAL[0], 0, path=REAL[0].path)])


def test_verdicts_must_be_of_these_pictures(go):
    with pytest.raises(UserError, match="rule 'accepted' needs a table of verdicts"):
        go(SETUP)
    with pytest.raises(UserError, match="no verdict for 1 images"):
        go(SETUP, verdicts=[verdict(e, 0.1) for e in EDITS[1:]])
    with pytest.raises(UserError, match="no verdict for 12 images"):
        go(SETUP, verdicts=[verdict(e, 0.1, sha256="older") for e in EDITS])


def test_edits_of_real_images_that_the_table_lacks_are_left_out(go, tmp_path):
    go(ALL)
    real, few = tmp_path / "real.csv", tmp_path / "few.csv"
    run(SelectSetup(rule="all", max_per_class=1), "real", None, real, None, few, real)
    run(ALL, "x", few, tmp_path / "id.csv", None, tmp_path / "x.csv", real)
    rows = read_manifest(tmp_path / "x.csv", SelectedRecord)
    chosen = {r.path for r in rows if r.origin == "real"}
    assert len(chosen) == 2
    assert len(rows) == 6 and {r.source for r in rows} == chosen


def test_a_setup_mixes_two_sets_of_positives(go, tmp_path):
    """Restored edits, and a few free ones on top of them."""
    go(ALL)
    free = [edit(source, v, set_name="free") for source in REAL[:6] for v in range(2)]
    write_manifest(tmp_path / "free.csv", free, SdeditRecord)
    params = SelectSetup(rule="all", max_per_class=2)
    run(params, "mixed", tmp_path / "x.csv", tmp_path / "free.csv", None, tmp_path / "mixed.csv", tmp_path / "real.csv")
    rows = read_manifest(tmp_path / "mixed.csv", SelectedRecord)
    assert {r.role for r in rows} == {"positive"}
    counts = Counter((r.origin, r.class_name) for r in rows)
    assert counts == {(o, c): n for o, n in (("real", 3), ("id", 6), ("free", 2)) for c in ("gear", "disc")}


def test_random_draws_as_many_a_class_as_the_band_from_all_fit_pictures(go):
    band = SelectSetup(role="negative", rule="band", band=(0.5, 1.0), cap=3.5, max_per_class=2)
    rule = band.model_copy(update={"rule": "random"})
    # gear: 3 in the band, of which 2 are taken; disc: 1, another has too much drift; the last of each shows no part
    percentiles = [0.9, 0.8, 0.7, 0.1, 0.2, 0.9] + [0.6, 0.1, 0.2, 0.3, 0.95, 0.9]
    reasons = [("blurred" if i % 6 == 5 else "drift") for i in range(12)]
    verdicts = [verdict(e, p, "drop", r) for e, p, r in zip(EDITS, percentiles, reasons, strict=True)]
    taken = go(rule, verdicts=verdicts)
    assert Counter(r.class_name for r in taken) == Counter(r.class_name for r in go(band, verdicts=verdicts))
    assert Counter(r.class_name for r in taken) == {"gear": 2, "disc": 1}
    assert {r.rule for r in taken} == {"random"} and {r.role for r in taken} == {"negative"}
    assert go(rule, verdicts=verdicts[::-1]) == taken  # of the order of a file nothing depends
    drawn, fit = set(), {e.path for i, e in enumerate(EDITS) if i % 6 != 5}
    for n in range(60):
        edits = [e.model_copy(update={"sha256": f"{e.sha256}-{n}"}) for e in EDITS]
        judged = [v.model_copy(update={"sha256": e.sha256}) for v, e in zip(verdicts, edits, strict=True)]
        drawn |= {r.path for r in go(rule, edits=edits, verdicts=judged)}
    assert drawn == fit


def test_real_images_as_negatives_of_other_classes(go, tmp_path):
    go(ALL)
    real, out = tmp_path / "real.csv", tmp_path / "control.csv"
    control = SelectSetup(role="negative", rule="all", max_per_class=2)
    run(control, "control", tmp_path / "s.csv", real, None, out, real)
    rows = read_manifest(out, SelectedRecord)
    negatives = [r for r in rows if r.role == "negative"]
    assert Counter(r.class_name for r in negatives) == {"gear": 2, "disc": 2}
    assert {r.path for r in negatives} < {r.path for r in rows if r.role == "positive"} and len(rows) == 6 + 4
    again = out.read_bytes()
    run(control, "control", tmp_path / "s.csv", real, None, out, real)
    assert out.read_bytes() == again
    for role in ("positive", "negative"):
        with pytest.raises(UserError, match="selected twice"):
            run(SelectSetup(role=role, rule="all"), "twice", out, real, None, tmp_path / "t.csv", real)
    with pytest.raises(UserError, match="rule 'random' needs a table of verdicts"):
        run(SelectSetup(role="negative", rule="random"), "x", tmp_path / "s.csv", real, None, out, real)


# --- people's decisions ---------------------------------------------------------------------------------------------


def reviewing(tmp_path: Path, rows: list[ReviewRecord] | None, verdicts: list[VerdictRecord]) -> bytes:
    """The table of a setup of accepted positives with these decisions; None = no table of them at all."""
    review = None
    if rows is not None:
        review = tmp_path / "review.csv"
        write_manifest(review, rows, ReviewRecord)
    write_manifest(tmp_path / "verdicts.csv", verdicts, VerdictRecord)
    paths = {"onto": "s.csv", "manifest": "id.csv", "verdicts": "verdicts.csv", "real": "real.csv", "out": "x.csv"}
    where = {name: tmp_path / path for name, path in paths.items()}
    select.run(select.Inputs(params=SETUP, setup="x", review=review, **where))
    return (tmp_path / "x.csv").read_bytes()


def test_without_decisions_the_table_has_the_same_bytes(go, tmp_path):
    go(ALL)
    verdicts = [verdict(e, 0.1 * i, ("accept", "drop")[i % 2], ("", "drift")[i % 2]) for i, e in enumerate(EDITS)]
    before = reviewing(tmp_path, None, verdicts)
    assert reviewing(tmp_path, [], verdicts) == before
    assert reviewing(tmp_path, [decision(e, "unsure") for e in EDITS], verdicts) == before
    assert reviewing(tmp_path, [decision(EDITS[0], "drop", sha256="older")], verdicts) == before


def test_decisions_change_the_rows_of_their_images_and_no_other(go, tmp_path, capsys):
    go(ALL)
    verdicts = [verdict(e, 0.1 * i, ("accept", "drop")[i % 2], ("", "drift")[i % 2]) for i, e in enumerate(EDITS)]
    before = set(reviewing(tmp_path, None, verdicts).decode().splitlines())
    capsys.readouterr()
    told = [decision(EDITS[1], "accept"), decision(EDITS[2], "drop"), decision(EDITS[4], "other_class")]
    told += [decision(EDITS[6], "unsure"), decision(EDITS[8], "drop", sha256="older")]
    after = set(reviewing(tmp_path, told, verdicts).decode().splitlines())
    assert {line.split(",")[0] for line in before - after} == {EDITS[2].path, EDITS[4].path}
    assert {line.split(",")[0] for line in after - before} == {EDITS[1].path}
    said = capsys.readouterr().out
    assert "people's decisions: 1 accept, 1 drop, 1 other_class, 1 unsure; 1 on images of other bytes" in said


def test_contradicting_decisions_stop_the_stage(go, tmp_path):
    go(ALL)
    rows = [decision(EDITS[0], "accept", reviewer="ann"), decision(EDITS[0], "drop", reviewer="ben")]
    with pytest.raises(UserError, match="ann says accept, ben says drop"):
        reviewing(tmp_path, rows, [verdict(e, 0.1) for e in EDITS])


def test_a_folder_in_place_of_a_table_is_a_fault(go, tmp_path):
    go(ALL)
    real = tmp_path / "real.csv"
    (tmp_path / "before.csv").mkdir()
    with pytest.raises(IsADirectoryError):
        run(ALL, "real", tmp_path / "before.csv", real, tmp_path, tmp_path / "s.csv", real)
