"""How far the augmentations went from the real parts, and what was judged of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from partsynth.records.rows import VerdictRecord
from partsynth.reporting import figures
from partsynth.reporting.inputs import Contents


@dataclass(frozen=True)
class Judged:
    """The verdicts of one set, counted."""

    images: int
    accepted: int
    reasons: dict[str, int]  # sorted; an image may have several
    median_percentile: float
    nearest_own: int  # images whose nearest class is their own
    calibration_n: int


def values(contents: Contents) -> dict[str, Any] | None:
    order = [n for n in contents.sets if n in contents.verdicts]
    order += [n for n in contents.verdicts if n not in contents.sets]
    judged = {n: list(contents.verdicts[n].values()) for n in order if contents.verdicts[n]}
    if not judged:
        return None
    far = {n: [too_far(v) for v in rows] for n, rows in judged.items()}
    limits = [v.drift for n, rows in judged.items() for v, flagged in zip(rows, far[n], strict=True) if flagged]
    drawn = {n: ([v.drift for v in rows], far[n]) for n, rows in judged.items()}
    return {
        "drawn": figures.drift(drawn, min(limits) if limits else None),
        "sets": {n: count(rows) for n, rows in judged.items()},
    }


def too_far(verdict: VerdictRecord) -> bool:
    return "drift" in verdict.reasons.split(";")


def count(rows: list[VerdictRecord]) -> Judged:
    reasons = Counter(reason for v in rows for reason in v.reasons.split(";") if reason)
    return Judged(
        images=len(rows),
        accepted=sum(v.verdict == "accept" for v in rows),
        reasons=dict(sorted(reasons.items())),
        median_percentile=float(np.median([v.percentile for v in rows])),
        nearest_own=sum(v.class_margin > 0 for v in rows),
        calibration_n=rows[0].calibration_n,
    )
