"""Which images of a set a setup takes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from partsynth.config.training import SelectSetup
from partsynth.records.rows import SelectedRecord, VerdictRecord
from partsynth.store.hashing import seed_from

DISTANT = {"drift", "other_class"}  # reasons that make a hard negative; the others make no picture of a part


def takes(params: SelectSetup, verdict: VerdictRecord | None) -> bool:
    if verdict is None:
        return True
    if params.nearest_own and verdict.nearest_class != verdict.class_name:
        return False
    if params.rule == "accepted":
        return verdict.verdict != "drop"
    fit = set(filter(None, verdict.reasons.split(";"))) <= DISTANT
    if params.rule == "band":
        return fit and in_band(params, verdict)
    return fit or params.rule == "all"


def in_band(params: SelectSetup, verdict: VerdictRecord) -> bool:
    low, high = params.band
    return low < verdict.percentile <= high and (params.cap is None or verdict.drift <= params.cap)


def draw_as_many(pictures: Sequence[SelectedRecord], counts: Counter[str], setup: str) -> list[SelectedRecord]:
    """``counts`` pictures of each class; a picture's place in the lot depends on setup and content alone."""
    by_class = defaultdict(list)
    for picture in sorted(pictures, key=lambda p: (seed_from("random", setup, p.sha256), p.path)):
        by_class[picture.class_name].append(picture)
    return [p for name, members in by_class.items() for p in members[: counts[name]]]


def cap_per_class(taken: list[SelectedRecord], most: int | None) -> list[SelectedRecord]:
    if most is None:
        return taken
    by_class = defaultdict(list)
    for picture in taken:
        by_class[picture.class_name].append(picture)

    def place(p: SelectedRecord) -> tuple[float, str, str]:
        return (0.0, p.sha256, p.path) if math.isnan(p.percentile) else (p.percentile, "", p.path)

    return [p for members in by_class.values() for p in sorted(members, key=place)[:most]]
