"""What a page shows: all flagged images, a sample of the others, and the nearest real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.audits import rewrite
from helpers.reviewed_project import verdicts
from helpers.rows import augmented, decision, real_row, verdict

from partsynth.config.models import Reference
from partsynth.errors import UserError
from partsynth.quality.features import Encoder
from partsynth.records.images import read_image
from partsynth.records.manifest import write_manifest
from partsynth.records.review import ReviewRecord
from partsynth.review.collect import OTHERS, OWN, collect, sample

REFERENCE = Reference(model="models/reference")


def test_all_flagged_images_are_shown_and_a_seeded_sample_of_the_others() -> None:
    rows = [augmented(real_row(f"gear/{i}", "train", "g"), f"{i}", sha256=f"{i:064}") for i in range(200)]
    judged = {r.path: verdict(r, 0.5, *(("drop", "drift") if i % 4 == 0 else ())) for i, r in enumerate(rows)}
    flagged = {r.path for i, r in enumerate(rows) if i % 4 == 0}
    few, more, other = (sample(rows, judged, n, seed) for n, seed in ((20, 0), (60, 0), (20, 1)))
    for drawn, count in ((few, 20), (more, 60), (other, 20)):
        paths = [row.path for row in drawn]
        assert flagged <= set(paths) and len(paths) == 50 + count
        assert paths == [row.path for row in rows if row.path in set(paths)]
    assert {r.path for r in few} < {r.path for r in more}
    assert {r.path for r in few} != {r.path for r in other}
    assert sample(rows[::-1], judged, 20, 0) == few[::-1]
    assert len(sample(rows, judged, 1000, 0)) == 200 and {r.path for r in sample(rows, judged, 0, 0)} == flagged


def test_beside_an_image_stand_the_nearest_real_ones_by_the_reference_features(judged: Path) -> None:
    page = collect(judged, "near_ood", REFERENCE, 100)
    flagged = sum(bool(v.reasons) for v in verdicts(judged, "near_ood"))
    assert 0 < flagged < 48
    assert (page.images, page.flagged, page.accepted, page.sampled) == (48, flagged, 48 - flagged, 48 - flagged)
    encoder, train = Encoder(REFERENCE, judged), list(page.sources.values())
    bank = encoder([read_image(judged, row) for row in train])
    for one in page.shown[::7]:
        distance = 1 - bank @ encoder([read_image(judged, one.row)])[0]
        order = [train[i] for i in np.argsort(distance)]
        own = [r for r in order if r.class_name == one.row.class_name and r.path != one.row.source]
        assert one.own == own[:OWN]
        assert one.others == [r for r in order if r.class_name != one.row.class_name][:OTHERS]
    assert {r.split for r in page.sources.values()} == {"train"}


def test_classes_that_are_held_out_may_be_named_too(judged: Path) -> None:
    trained = ["flange_t6", "flange_t9", "gear_t6", "gear_t9"]
    assert collect(judged, "id", REFERENCE, 0).classes[:4] == trained
    assert "shaft_t1" in collect(judged, "id", REFERENCE, 0).classes[4:]


def test_decisions_on_the_images_as_they_are_come_along(project: Path) -> None:
    first, second = verdicts(project)[:2]
    known = [decision("x", "drop", path=v.path, sha256=v.sha256, class_name=v.class_name) for v in (first, second)]
    known[1] = known[1].model_copy(update={"sha256": "older"})
    write_manifest(project / "data/review/id.csv", known, ReviewRecord)
    shown = {one.row.path: one for one in collect(project, "id", REFERENCE, 100).shown}
    assert shown[first.path].earlier == known[0] and shown[second.path].earlier is None


def test_a_set_that_was_not_judged_as_it_is_now_is_refused(project: Path) -> None:
    rewrite(project / "data/quality/id.csv", lambda rows: rows[0].update(sha256="older"))
    with pytest.raises(UserError, match=r"has no verdict for 1 images, such as data/augmented/id/"):
        collect(project, "id", REFERENCE, 10)
    (project / "data/quality/id.csv").unlink()
    with pytest.raises(UserError, match=r"id\.csv is missing"):
        collect(project, "id", REFERENCE, 10)
