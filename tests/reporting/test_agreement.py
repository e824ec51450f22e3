"""Gate and people: counted by hand, and a threshold that is known because it was planted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.rows import augmented, decision, real_row, verdict

from partsynth.records.review import ReviewRecord
from partsynth.records.rows import VerdictRecord
from partsynth.reporting.agreement import FEWEST, agreement

SOURCE = real_row("gear/0", "train", "gear-0")


def judged(count: int, limit: float = 0.95, blurred: tuple[int, ...] = ()) -> list[VerdictRecord]:
    """Of ``count`` images with percentiles 1/count, 2/count, ..., 1."""
    rows = []
    for i in range(count):
        percentile = (i + 1) / count
        reasons = ["blurred"] * (i in blurred) + ["drift"] * (percentile > limit)
        rows.append(verdict(augmented(SOURCE, f"{i}"), percentile, "drop" if reasons else "accept", ";".join(reasons)))
    return rows


def told(rows: list[VerdictRecord], *decisions: str | None) -> dict[str, ReviewRecord]:
    pairs = zip(rows, decisions, strict=True)
    return {
        v.path: decision("x", d, path=v.path, sha256=v.sha256, class_name=v.class_name)
        for v, d in pairs
        if d is not None
    }


def test_counts_by_hand() -> None:
    rows = judged(10, limit=0.5)  # 5 pass, 5 are flagged
    decisions = ["accept", "accept", "drop", "unsure", None, "drop", "other_class", "accept", "unsure", "drop"]
    found = agreement(rows, told(rows, *decisions), 0.5)
    assert (found.accepted.agreeing, found.accepted.reviewed, found.accepted.images) == (2, 3, 5)
    assert (found.flagged.agreeing, found.flagged.reviewed, found.flagged.images) == (3, 4, 5)
    assert (found.reviewed, found.agreeing, found.unsure, found.reviewers) == (7, 5, 2, ("ann",))
    low, high = found.accepted.interval  # Wilson 1927, equation by hand
    n, p, z = 3, 2 / 3, 1.959963984540054
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    assert (low, high) == pytest.approx((middle - half, middle + half))


def test_without_enough_of_both_no_threshold_is_told() -> None:
    rows = judged(20, limit=0.5)
    few = agreement(rows, told(rows, *["accept"] * 16, *["drop"] * 4), 0.5)
    assert few.best is None and few.balanced is None
    assert few.absent == f"people accepted 16 and rejected 4, and at least {FEWEST} of each are needed"
    one_side = agreement(rows, told(rows, *[None] * 10, *["drop"] * 5, *["accept"] * 5), 0.5)
    assert one_side.absent == "nobody reviewed an image that the gate accepted"
    assert one_side.accepted.reviewed == 0


def test_a_planted_threshold_is_found() -> None:
    """People accept up to the 60th of 100 images; the gate, up to the 90th."""
    rows = judged(100, limit=0.9)
    found = agreement(rows, told(rows, *["accept"] * 60, *["drop"] * 40), 0.9)
    assert found.best is not None and found.balanced is not None
    assert (found.best.low, found.best.high) == (0.6, pytest.approx(0.61)) and found.best.balanced == 1
    assert found.balanced == pytest.approx((1 + 10 / 40) / 2)  # all 60 pass, and 30 of the 40


def test_the_present_threshold_stays_where_another_is_no_better() -> None:
    rows = judged(20, limit=0.5)
    decisions = told(rows, *["accept"] * 8, *[None] * 6, *["drop"] * 6)  # between the 8th and the 15th all are alike
    found = agreement(rows, decisions, 0.5)
    assert found.balanced == 1 and found.best is not None
    assert found.best.low <= 0.5 < found.best.high and (found.best.low, found.best.high) == (0.4, 0.75)


def test_other_checks_stay_as_they_are() -> None:
    """Images that people accept, and that the gate flags as blurred: no threshold lets them pass."""
    rows = judged(20, limit=0.5, blurred=(0, 1))
    found = agreement(rows, told(rows, *["accept"] * 10, *["drop"] * 10), 0.5)
    assert found.best is not None and found.best.balanced == pytest.approx((8 / 10 + 1) / 2)


def test_a_sample_of_the_accepted_stands_for_all_of_them() -> None:
    """Whole set and samples give the same figures in the mean, though these hold a third of the accepted."""
    generator = np.random.default_rng(0)
    rows = judged(400, limit=0.8)
    people = ["accept" if generator.random() < (0.9 if not v.reasons else 0.3) else "drop" for v in rows]
    whole = agreement(rows, told(rows, *people), 0.8)
    sampled, unweighted = [], []
    for _ in range(40):
        drawn = set(generator.choice([i for i, v in enumerate(rows) if not v.reasons], 107, replace=False).tolist())
        some = [d if v.reasons or i in drawn else None for i, (v, d) in enumerate(zip(rows, people, strict=True))]
        found = agreement(rows, told(rows, *some), 0.8)
        sampled.append(found.balanced)
        passed = [(d == "accept", not v.reasons) for v, d in zip(rows, some, strict=True) if d is not None]
        right = [[p == w for w, p in passed if w is kind] for kind in (True, False)]
        unweighted.append(np.mean([np.mean(r) for r in right]))
    assert whole.balanced == pytest.approx(np.mean(sampled), abs=0.015)
    assert abs(whole.balanced - np.mean(unweighted)) > 0.05
