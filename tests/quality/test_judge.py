"""Scores and verdicts together, on drawn parts; with the real reference encoder in tests/test_planted_failures.py."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from helpers.parts import KINDS, edges, part
from helpers.rows import augmented, real_row
from PIL import Image, ImageFilter, ImageOps

from partsynth.augmentation.methods.sdedit import SdeditRecord
from partsynth.config.quality import Quality
from partsynth.core.images import stats
from partsynth.quality.judge import judge
from partsynth.quality.measure import Measured
from partsynth.quality.score import score
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import RealRecord, VerdictRecord


def measured(images: list[Image.Image], sources: list[Image.Image] | None = None) -> Measured:
    thumbs = [None] * len(images) if sources is None else [stats.thumbnail(source) for source in sources]
    return Measured(edges(images), stats.stacked([stats.measure(*pair) for pair in zip(images, thumbs, strict=True)]))


STRICT = Quality(tolerance=0.0)  # the drawn parts' features are no encoder's: a deviation is not what it is of renders


@pytest.fixture(scope="module")
def world():
    """Real rows with their images, drawn parts of four classes: 16 train, 12 val, 25 test each."""
    rows, images = [], []
    for k, kind in enumerate(KINDS):
        for split, count, start in (("train", 16, 0), ("val", 12, 100), ("test", 25, 200)):
            for i in range(count):
                rows.append(real_row(f"{kind}/{i}", split, f"{kind}-{split}-{i // 2}"))
                images.append(part(kind, 1000 * k + start + i))
    return rows, images


def verdicts_on(
    world, pictures: list[tuple[SdeditRecord, Image.Image]], params: Quality = STRICT
) -> list[VerdictRecord]:
    known = [(r, i) for r, i in zip(*world, strict=True) if r.split != "test"]
    real_rows, real_images = [r for r, _ in known], [i for _, i in known]
    image_of = {row.path: image for row, image in zip(*world, strict=True)}
    rows = [r for r, _ in pictures]
    found = measured([i for _, i in pictures], [image_of[row.source] for row in rows])
    scores, limits = score(rows, found, real_rows, measured(real_images), params)
    return judge(rows, found.stats, scores, limits, params, "id")


def reasons_of(world, pictures: list[tuple[SdeditRecord, Image.Image]], params: Quality = STRICT) -> list[str]:
    return [v.reasons for v in verdicts_on(world, pictures, params)]


def training(world) -> list[tuple[RealRecord, Image.Image]]:
    return [(r, i) for r, i in zip(*world, strict=True) if r.split == "train"]


def spoiled(world, spoil) -> list[tuple[SdeditRecord, Image.Image]]:
    return [(augmented(r, str(n)), spoil(i, n)) for n, (r, i) in enumerate(training(world))]


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 48, 3), np.uint8))


def of_another_class(world, image: Image.Image, number: int) -> Image.Image:
    (row, _) = training(world)[number]
    others = [i for r, i in zip(*world, strict=True) if r.split == "test" and r.class_name != row.class_name]
    return others[(7 * number) % len(others)]


PLANTED = {
    "another class": of_another_class,
    "blur": lambda world, image, n: image.filter(ImageFilter.GaussianBlur(2)),
    "noise": lambda world, image, n: Image.blend(image, noise(n), 0.5),
    "pure noise": lambda world, image, n: noise(n),
    "blank": lambda world, image, n: Image.new("RGB", image.size, (3 * n,) * 3),
    "upside-down exposure": lambda world, image, n: ImageOps.invert(image),
    "copy": lambda world, image, n: image,
}


@pytest.mark.parametrize("failure", PLANTED)
def test_planted_failures_are_caught(world, failure):
    reasons = reasons_of(world, spoiled(world, lambda image, n: PLANTED[failure](world, image, n)))
    assert np.mean([bool(r) for r in reasons]) >= 0.95, Counter(reasons)


def test_real_held_out_parts_are_rarely_flagged(world):
    first = {r.class_name: r for r, _ in reversed(training(world))}
    held_out = [(r, i) for r, i in zip(*world, strict=True) if r.split == "test"]
    pictures = [(augmented(first[r.class_name], str(n)), i) for n, (r, i) in enumerate(held_out)]
    reasons = reasons_of(world, pictures)
    assert np.mean([bool(r) for r in reasons]) <= 0.10, Counter(reasons)


def test_thresholds_decide_nothing_else(world):
    pictures = spoiled(world, lambda image, n: image.filter(ImageFilter.GaussianBlur(2)))
    lenient = Quality(accept_percentile=1.0, sharpness_ratio=0.0, copy_similarity=1.0, min_contrast=0.0)
    assert not any(reasons_of(world, pictures, lenient))


def test_a_verdict_is_of_its_image_and_names_its_reasons(world):
    pictures = spoiled(world, lambda image, n: image if n else Image.new("RGB", image.size))
    for on_flagged, flagged in (("warn", "warn"), ("drop", "drop"), ("fail", "drop")):
        found = verdicts_on(world, pictures, Quality(on_flagged=on_flagged))
        assert [(v.path, v.sha256, v.source) for v in found] == [(r.path, r.sha256, r.source) for r, _ in pictures]
        assert {(v.verdict, bool(v.reasons)) for v in found} == {(flagged, True)}  # copies, and one that is blank
    assert {"dark", "flat"} <= set(found[0].reasons.split(";")) and "copy" in found[1].reasons.split(";")
    assert found[0].contrast == 0 and found[1].copy_similarity == 1.0


def test_real_images_have_no_source_to_be_copied_from(world):
    rows, images = zip(*training(world), strict=True)
    known = [(r, i) for r, i in zip(*world, strict=True) if r.split != "test"]
    real = measured([i for _, i in known])
    found = measured(list(images))
    scores, limits = score(rows, found, [r for r, _ in known], real, Quality())
    assert np.isnan(scores.similarity).all()
    assert {v.source for v in judge(rows, found.stats, scores, limits, Quality(), "real")} == {""}


def test_no_images_have_no_verdicts(world):
    assert verdicts_on(world, [(augmented(world[0][0], "1"), world[1][0])])[0].calibration_n == 48
    known = [(r, i) for r, i in zip(*world, strict=True) if r.split != "test"]
    real = measured([i for _, i in known])
    scores, limits = score([], real.take([]), [r for r, _ in known], real, Quality())
    assert judge([], real.stats.take([]), scores, limits, Quality(), "id") == []


def test_a_tolerance_moves_the_threshold_and_no_percentile(world):
    edits = spoiled(world, lambda image, n: image.filter(ImageFilter.GaussianBlur(0.4 + n % 4 / 4)))
    strict, wide = verdicts_on(world, edits), verdicts_on(world, edits, Quality(tolerance=6.0))
    assert [v.percentile for v in strict] == [v.percentile for v in wide]
    assert {v.tolerated for v in strict} == {None} and all(v.tolerated <= v.percentile for v in wide)
    limit = max(v.drift for v in strict if "drift" not in v.reasons)  # somewhere below the strict threshold
    assert all("drift" not in v.reasons for v in wide if v.drift <= limit + 6)
    few, many = (sum("drift" in v.reasons for v in found) for found in (wide, strict))
    assert few < many


def test_drift_from_every_class_is_told_where_it_is_asked_for(world, tmp_path):
    """A sibling's image under the wrong name is far from its class, yet somebody's; what is like none is nobody's."""
    others = {r.path: i for r, i in zip(*world, strict=True) if r.split == "test" and r.class_name == KINDS[1]}
    mine = [r for r, _ in training(world) if r.class_name == KINDS[0]]
    edits = [(augmented(r, f"s{n}"), i) for n, (r, i) in enumerate(zip(mine, others.values(), strict=False))]
    noise = np.random.default_rng(0).integers(0, 256, (len(mine), 48, 48, 3), dtype=np.uint8)
    edits += [(augmented(r, f"n{n}"), Image.fromarray(noise[n])) for n, r in enumerate(mine)]
    plain, told = verdicts_on(world, edits), verdicts_on(world, edits, Quality(tolerance=0.0, all_classes=True))
    younger = {"least_drift", "nobody"}
    assert [v.model_dump(exclude=younger) for v in told] == [v.model_dump(exclude=younger) for v in plain]
    assert {v.nobody for v in plain} == {v.least_drift for v in plain} == {None}
    write_manifest(tmp_path / "plain.csv", plain, VerdictRecord)
    assert not younger & set((tmp_path / "plain.csv").read_text().splitlines()[0].split(","))
    write_manifest(tmp_path / "told.csv", told, VerdictRecord)
    assert {v.path: v for v in read_manifest(tmp_path / "told.csv", VerdictRecord)} == {v.path: v for v in told}
    assert all(v.least_drift <= v.drift for v in told)
    siblings, strange = told[: len(mine)], told[len(mine) :]
    assert np.mean([v.percentile for v in siblings]) > 0.95 and np.mean([v.nobody for v in siblings]) < 0.9
    assert all(v.nobody > 0.95 for v in strange)
    wide = verdicts_on(world, edits, Quality(tolerance=0.0, all_classes=True, all_classes_tolerance=3.0))
    assert all(w.nobody <= v.nobody and w.least_drift == v.least_drift for w, v in zip(wide, told, strict=True))
