"""What the rules take of a set, and what a training table says of it."""

from __future__ import annotations

from collections import Counter

import pytest
from helpers.rows import augmented, exchanged, real_row, verdict

from partsynth.config.training import SelectSetup
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import SelectedRecord, VerdictRecord
from partsynth.selection.table import chosen, read_verdicts, selected

REAL = [real_row(f"{kind}/{i}", "train", f"{kind}-{i}") for kind in ("gear", "disc") for i in range(3)]
EDITS = [augmented(source, f"{source.path[-5]}_{v}") for source in REAL for v in range(2)]


def taken(
    params: SelectSetup, verdicts: list[VerdictRecord] | None, edits=EDITS, sources=frozenset()
) -> list[SelectedRecord]:
    images = [selected(edit, params.role) for edit in edits]
    judged = None if verdicts is None else {v.path: v for v in verdicts}
    return chosen(images, judged, sources, params, "x")


def test_rows_keep_what_an_image_goes_back_to() -> None:
    real, edited = selected(REAL[0], "negative"), selected(EDITS[0], "positive")
    assert (real.origin, real.role, real.source, real.group) == ("real", "negative", REAL[0].path, "gear-0")
    assert (edited.origin, edited.role, edited.source, edited.group) == ("id", "positive", REAL[0].path, "gear-0")
    assert (real.state, edited.state) == ("used", "rusty")


def test_accepted_leaves_the_dropped_out_and_keeps_warnings() -> None:
    verdicts = [verdict(e, 0.1 * i, ("accept", "warn", "drop")[i % 3]) for i, e in enumerate(EDITS[:10])]
    verdicts += [verdict(e, 1.0, "drop", "drift") for e in EDITS[10:]]
    rows = taken(SelectSetup(rule="accepted"), verdicts)
    assert {r.path: r.percentile for r in rows} == {v.path: v.percentile for v in verdicts if v.verdict != "drop"}
    assert {(r.role, r.origin, r.state, r.rule) for r in rows} == {("positive", "id", "rusty", "accepted")}


def test_all_takes_everything_with_verdicts_and_without() -> None:
    params = SelectSetup(rule="all")
    verdicts = [verdict(e, 1.0, "drop", "blurred") for e in EDITS]
    assert [r.path for r in taken(params, verdicts)] == [r.path for r in taken(params, None)] == [e.path for e in EDITS]
    assert {r.percentile for r in taken(params, verdicts)} == {1.0}


def test_band_is_open_below_and_closed_above() -> None:
    setup = SelectSetup(role="negative", rule="band", band=(0.5, 0.75))
    given = [0.5, 0.51, 0.75, 0.76] + [0.0] * 8
    rows = taken(setup, [verdict(e, p, "drop", "drift") for e, p in zip(EDITS, given, strict=True)])
    assert {(r.role, r.percentile) for r in rows} == {("negative", 0.51), ("negative", 0.75)}


def test_band_takes_no_unfit_image_and_caps_drift() -> None:
    setup = SelectSetup(role="negative", rule="band", band=(0.5, 1.0), cap=3.5)
    reasons = ["drift", "drift;blurred", "flat", ""] + [""] * 8
    percentiles = [0.8, 0.8, 0.8, 0.8, 0.9] + [0.1] * 7
    rows = zip(EDITS, percentiles, reasons, strict=True)
    found = taken(setup, [verdict(e, p, "drop" if r else "accept", r) for e, p, r in rows])
    assert {r.path for r in found} == {EDITS[0].path, EDITS[3].path}


def nobodys(edit, nobody: float | None, least: float = 2.0, reasons: str = "drift") -> VerdictRecord:
    return verdict(edit, 1.0, "drop", reasons, nobody=nobody, least_drift=None if nobody is None else least)


def test_nobody_goes_by_the_least_drift_of_all_classes_and_caps_it() -> None:
    setup = SelectSetup(role="negative", rule="nobody", band=(0.5, 0.9), cap=3.5)
    given = [(0.5, 2.0), (0.51, 2.0), (0.9, 3.5), (0.9, 3.6), (0.91, 2.0)] + [(0.1, 1.0)] * 7
    found = taken(setup, [nobodys(e, *pair) for e, pair in zip(EDITS, given, strict=True)])
    assert [r.path for r in found] == [EDITS[1].path, EDITS[2].path]
    blurred = [nobodys(e, 0.7, reasons="blurred") for e in EDITS]
    assert taken(setup, blurred) == []


def test_nobody_keeps_of_each_class_those_nearest_to_any() -> None:
    setup = SelectSetup(role="negative", rule="nobody", max_per_class=2)
    found = taken(setup, [nobodys(e, 0.99, least=10.0 - i) for i, e in enumerate(EDITS)])
    assert {r.path for r in found} == {e.path for e in (*EDITS[4:6], *EDITS[10:12])}


def test_nobody_without_its_column_says_what_to_set() -> None:
    with pytest.raises(UserError, match=r"set quality.all_classes to true in params.yaml and run quality again"):
        taken(SelectSetup(role="negative", rule="nobody"), [nobodys(e, None) for e in EDITS])


def test_an_image_of_two_photographs_needs_both_in_the_table() -> None:
    image = selected(exchanged(REAL[0], REAL[1]), "negative")
    assert (image.donor, image.donor_group) == (REAL[1].path, "gear-1")
    params = SelectSetup(role="negative", rule="all")
    for sources, kept in (({REAL[0].path, REAL[1].path}, True), ({REAL[0].path}, False), ({REAL[1].path}, False)):
        assert bool(chosen([image], None, sources, params, "x")) == kept


def test_donors_are_told_in_a_table_that_has_any_alone(tmp_path) -> None:
    path = tmp_path / "table.csv"
    write_manifest(path, [selected(EDITS[0], "negative")], SelectedRecord)
    assert "donor" not in path.read_text()
    rows = [selected(row, "negative") for row in (EDITS[0], exchanged(REAL[0], REAL[1]))]
    rows = [row.model_copy(update={"percentile": 0.5}) for row in rows]  # nan is no equal of itself
    write_manifest(path, rows, SelectedRecord)
    assert sorted(read_manifest(path, SelectedRecord), key=lambda r: r.path) == sorted(rows, key=lambda r: r.path)


def test_nearest_own() -> None:
    near = [e.class_name if i % 2 else "other" for i, e in enumerate(EDITS)]
    verdicts = [verdict(e, 0.1, nearest_class=n) for e, n in zip(EDITS, near, strict=True)]
    for rule in ("accepted", "all"):
        rows = taken(SelectSetup(rule=rule, nearest_own=True), verdicts)
        assert {r.path for r in rows} == {e.path for e in EDITS[1::2]}


def test_max_per_class_keeps_the_nearest() -> None:
    percentiles = [0.9, 0.2, 0.3, 0.3, 0.8, 0.7] * 2
    verdicts = [verdict(e, p) for e, p in zip(EDITS, percentiles, strict=True)]
    rows = taken(SelectSetup(rule="accepted", max_per_class=2), verdicts)
    assert {r.path for r in rows} == {EDITS[i].path for i in (1, 2, 7, 8)}


def test_without_percentiles_max_per_class_keeps_the_first_by_hash() -> None:
    edits = [e.model_copy(update={"sha256": f"{7 * i % 12:02d}"}) for i, e in enumerate(EDITS)]
    rows = taken(SelectSetup(rule="all", max_per_class=1), None, edits)
    assert [r.sha256 for r in rows] == [min(e.sha256 for e in edits if e.class_name == k) for k in ("gear", "disc")]


def test_random_draws_as_many_per_class_as_the_band_from_all_fit_images() -> None:
    band = SelectSetup(role="negative", rule="band", band=(0.5, 1.0), cap=3.5, max_per_class=2)
    rule = band.model_copy(update={"rule": "random"})
    # gear: 3 in the band, of which 2 are taken; disc: 1, another has too much drift; the last of each shows no part
    percentiles = [0.9, 0.8, 0.7, 0.1, 0.2, 0.9] + [0.6, 0.1, 0.2, 0.3, 0.95, 0.9]
    reasons = [("blurred" if i % 6 == 5 else "drift") for i in range(12)]
    verdicts = [verdict(e, p, "drop", r) for e, p, r in zip(EDITS, percentiles, reasons, strict=True)]
    rows = taken(rule, verdicts)
    assert Counter(r.class_name for r in rows) == Counter(r.class_name for r in taken(band, verdicts))
    assert Counter(r.class_name for r in rows) == {"gear": 2, "disc": 1}
    assert {r.rule for r in rows} == {"random"} and {r.role for r in rows} == {"negative"}
    backwards = taken(rule, verdicts[::-1], EDITS[::-1])
    assert sorted(backwards, key=lambda r: r.path) == sorted(rows, key=lambda r: r.path)  # order decides nothing
    drawn, fit = set(), {e.path for i, e in enumerate(EDITS) if i % 6 != 5}
    for n in range(60):
        edits = [e.model_copy(update={"sha256": f"{e.sha256}-{n}"}) for e in EDITS]
        drawn |= {r.path for r in taken(rule, verdicts, edits)}
    assert drawn == fit


def test_edits_of_images_that_the_table_lacks_are_left_out() -> None:
    sources = {REAL[0].path, REAL[4].path}
    assert {r.source for r in taken(SelectSetup(rule="all"), None, sources=sources)} == sources


@pytest.mark.parametrize("rule", ["accepted", "band", "random"])
def test_a_rule_that_judges_needs_verdicts(rule) -> None:
    with pytest.raises(UserError, match=f"select.x: rule '{rule}' needs a table of verdicts; without one: rule all"):
        taken(SelectSetup(rule=rule), None)
    with pytest.raises(UserError, match="needs a table of verdicts"):
        taken(SelectSetup(rule="all", nearest_own=True), None)
    assert taken(SelectSetup(rule=rule), None, edits=[]) == []


def test_verdicts_must_be_of_these_images(tmp_path) -> None:
    images = [selected(edit, "positive") for edit in EDITS]
    path = tmp_path / "verdicts.csv"
    write_manifest(path, [verdict(e, 0.1) for e in EDITS], VerdictRecord)
    assert read_verdicts(images, path).keys() == {e.path for e in EDITS}
    write_manifest(path, [verdict(e, 0.1) for e in EDITS[1:]], VerdictRecord)
    with pytest.raises(UserError, match=f"no verdict for 1 images, such as {EDITS[0].path}"):
        read_verdicts(images, path)
    write_manifest(path, [verdict(e, 0.1, sha256="older") for e in EDITS], VerdictRecord)
    with pytest.raises(UserError, match="no verdict for 12 images"):
        read_verdicts(images, path)
