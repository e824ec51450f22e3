from collections import Counter
from pathlib import Path

import pytest

from partsynth.config.training import SelectSetup
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord, SelectedRecord, VerdictRecord
from partsynth.stages import select

SETUP = SelectSetup(role="positive", rule="accepted")


def real_row(name: str, split: str, group: str) -> RealRecord:
    kind = name.split("/")[0]
    return RealRecord(
        path=f"data/real/{split}/{name}.png",
        sha256=f"real-{name}",
        class_name=kind,
        split=split,
        group=group,
        state="used",
        source=f"{name}.jpg",
        source_sha256="x",
    )


REAL = [
    *(real_row(f"{kind}/{i}", "train", f"{kind}-{i}") for kind in ("gear", "disc") for i in range(3)),
    real_row("gear/7", "val", "gear-7"),
    real_row("gear/8", "test", "gear-8"),
]


def edit(parent: RealRecord, variant: int, **changes) -> AugmentedRecord:
    name = f"{parent.class_name}/{Path(parent.path).stem}_{variant}"
    told = {
        "path": f"data/augmented/id/{name}.png",
        "sha256": f"aug-{name}",
        "class_name": parent.class_name,
        "set_name": "id",
        "source": parent.path,
        "source_sha256": parent.sha256,
        "source_group": parent.group,
        "variant": variant,
        "prompt": "a photo of a rusty <gear>",
        "state": "rusty",
        "seed": 1,
        "strength": 0.2,
        "guidance": 4.0,
        "steps": 25,
        "token_noise": 0.0,
        "masked": False,
        "size": 64,
        "token_sha256": "t",
        "base_sha256": "b",
        "fingerprint": "f",
    }
    return AugmentedRecord(**(told | changes))


EDITS = [edit(source, v) for source in REAL[:6] for v in range(2)]


def verdict(
    row: AugmentedRecord, percentile: float, verdict: str = "accept", reasons: str = "", **changes
) -> VerdictRecord:
    told = {
        "path": row.path,
        "sha256": row.sha256,
        "class_name": row.class_name,
        "set_name": "id",
        "source": row.source,
        "drift": percentile * 4,
        "percentile": percentile,
        "calibration_n": 20,
        "nearest_class": row.class_name,
        "class_margin": 0.1,
        "sharpness": 0.1,
        "brightness": 0.5,
        "contrast": 0.2,
        "copy_similarity": 0.5,
        "verdict": verdict,
        "reasons": reasons,
    }
    return VerdictRecord(**(told | changes))


@pytest.fixture
def go(tmp_path):
    def run(params: SelectSetup, edits=EDITS, verdicts=None, real=REAL) -> list[SelectedRecord]:
        write_manifest(tmp_path / "real.csv", real, RealRecord)
        write_manifest(tmp_path / "id.csv", edits, AugmentedRecord)
        if verdicts is not None:
            write_manifest(tmp_path / "verdicts.csv", verdicts, VerdictRecord)
        everything = SelectSetup(rule="all")
        select.run(everything, "real", None, tmp_path / "real.csv", None, tmp_path / "s.csv", tmp_path / "real.csv")
        told = None if verdicts is None else tmp_path / "verdicts.csv"
        out = tmp_path / "x.csv"
        select.run(params, "x", tmp_path / "s.csv", tmp_path / "id.csv", told, out, tmp_path / "real.csv")
        rows = read_manifest(out, SelectedRecord)
        assert [r.path for r in rows if r.origin == "real"] == sorted(r.path for r in REAL if r.split == "train")
        return [r for r in rows if r.origin != "real"]

    return run


def test_real_takes_the_training_pictures_alone(go, tmp_path):
    go(SelectSetup(rule="all"))
    rows = read_manifest(tmp_path / "s.csv", SelectedRecord)
    assert [(r.path, r.role, r.origin, r.source) for r in rows] == sorted(
        (r.path, "positive", "real", r.path) for r in REAL if r.split == "train"
    )


def test_a_folder_stands_for_none(go, tmp_path):
    go(SelectSetup(rule="all"))
    before = (tmp_path / "s.csv").read_bytes()
    real = tmp_path / "real.csv"
    select.run(SelectSetup(rule="all"), "real", tmp_path, real, tmp_path, tmp_path / "s.csv", real)
    assert (tmp_path / "s.csv").read_bytes() == before


def test_accepted_leaves_the_dropped_out_and_keeps_warnings(go):
    verdicts = [verdict(e, 0.1 * i, ("accept", "warn", "drop")[i % 3]) for i, e in enumerate(EDITS[:10])]
    verdicts += [verdict(e, 1.0, "drop", "drift") for e in EDITS[10:]]
    taken = go(SETUP, verdicts=verdicts)
    assert {r.path for r in taken} == {v.path for v in verdicts if v.verdict != "drop"}
    assert {r.path: r.percentile for r in taken} == {v.path: v.percentile for v in verdicts if v.verdict != "drop"}
    assert {(r.role, r.origin, r.state) for r in taken} == {("positive", "id", "rusty")}


def test_band_is_open_below_and_closed_above(go):
    setup = SelectSetup(role="negative", rule="band", band=(0.5, 0.75))
    given = [0.5, 0.51, 0.75, 0.76] + [0.0] * 8
    taken = go(setup, verdicts=[verdict(e, p, "drop", "drift") for e, p in zip(EDITS, given, strict=True)])
    assert {(r.role, r.percentile) for r in taken} == {("negative", 0.51), ("negative", 0.75)}


def test_band_takes_no_unfit_picture_and_caps_drift(go):
    setup = SelectSetup(role="negative", rule="band", band=(0.5, 1.0), cap=3.5)
    reasons = ["drift", "drift;blurred", "flat", ""] + [""] * 8
    percentiles = [0.8, 0.8, 0.8, 0.8, 0.9] + [0.1] * 7
    rows = zip(EDITS, percentiles, reasons, strict=True)
    taken = go(setup, verdicts=[verdict(e, p, "drop" if r else "accept", r) for e, p, r in rows])
    assert {r.path for r in taken} == {EDITS[0].path, EDITS[3].path}


def test_nearest_own(go):
    near = [e.class_name if i % 2 else "other" for i, e in enumerate(EDITS)]
    verdicts = [verdict(e, 0.1, nearest_class=n) for e, n in zip(EDITS, near, strict=True)]
    taken = go(SelectSetup(rule="accepted", nearest_own=True), verdicts=verdicts)
    assert {r.path for r in taken} == {e.path for e in EDITS[1::2]}


def test_max_per_class_keeps_the_nearest(go):
    percentiles = [0.9, 0.2, 0.3, 0.3, 0.8, 0.7] * 2
    verdicts = [verdict(e, p) for e, p in zip(EDITS, percentiles, strict=True)]
    taken = go(SelectSetup(rule="accepted", max_per_class=2), verdicts=verdicts)
    assert {r.path for r in taken} == {EDITS[i].path for i in (1, 2, 7, 8)}


def test_nothing_left_says_so_and_goes_on(go, capsys):
    assert go(SETUP, verdicts=[verdict(e, 1.0, "drop", "drift") for e in EDITS]) == []
    assert "leaves none of 12 pictures" in capsys.readouterr().out
    assert go(SETUP, edits=[], verdicts=[]) == []


def test_leaks_are_refused(go, tmp_path):
    everything = SelectSetup(rule="all")
    for bad, reason in (
        (edit(REAL[6], 0), "its source data/real/val/gear/7.png is no training picture"),
        (edit(REAL[0], 9, source="data/real/train/gear/gone.png"), "is no training picture"),
        (edit(REAL[0], 9, class_name="disc"), "class and group are disc, gear-0"),
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
    with pytest.raises(UserError, match="no verdict for 1 pictures"):
        go(SETUP, verdicts=[verdict(e, 0.1) for e in EDITS[1:]])
    with pytest.raises(UserError, match="no verdict for 12 pictures"):
        go(SETUP, verdicts=[verdict(e, 0.1, sha256="older") for e in EDITS])


def test_edits_of_real_pictures_that_the_table_lacks_are_left_out(go, tmp_path):
    go(SelectSetup(rule="all"))
    real, few = tmp_path / "real.csv", tmp_path / "few.csv"
    select.run(SelectSetup(rule="all", max_per_class=1), "real", None, real, None, few, real)
    select.run(SelectSetup(rule="all"), "x", few, tmp_path / "id.csv", None, tmp_path / "x.csv", real)
    rows = read_manifest(tmp_path / "x.csv", SelectedRecord)
    chosen = {r.path for r in rows if r.origin == "real"}
    assert len(chosen) == 2
    assert len(rows) == 6 and {r.source for r in rows} == chosen


def test_random_draws_as_many_a_class_as_the_band_from_all_fit_pictures(go):
    band = SelectSetup(role="negative", rule="band", band=(0.5, 1.0), cap=3.5, max_per_class=2)
    rule = band.model_copy(update={"rule": "random"})
    # gear: 3 in the band, of which 2 are taken; disc: 1, another has too much drift; the last of each is no picture
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


def test_real_pictures_as_negatives_of_other_classes(go, tmp_path):
    go(SelectSetup(rule="all"))
    real, out = tmp_path / "real.csv", tmp_path / "control.csv"
    control = SelectSetup(role="negative", rule="all", max_per_class=2)
    select.run(control, "control", tmp_path / "s.csv", real, None, out, real)
    rows = read_manifest(out, SelectedRecord)
    negatives = [r for r in rows if r.role == "negative"]
    assert Counter(r.class_name for r in negatives) == {"gear": 2, "disc": 2}
    assert {r.path for r in negatives} < {r.path for r in rows if r.role == "positive"} and len(rows) == 6 + 4
    again = out.read_bytes()
    select.run(control, "control", tmp_path / "s.csv", real, None, out, real)
    assert out.read_bytes() == again
    for role in ("positive", "negative"):
        with pytest.raises(UserError, match="selected twice"):
            select.run(SelectSetup(role=role, rule="all"), "twice", out, real, None, tmp_path / "t.csv", real)
    with pytest.raises(UserError, match="rule 'random' needs a table of verdicts"):
        select.run(SelectSetup(role="negative", rule="random"), "x", tmp_path / "s.csv", real, None, out, real)
