"""Which images of a set a setup takes.

One more rule is one more module of ``rules`` with a ``Rule`` as ``MEMBER``, and its name in ``seams.RULES``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from partsynth.config.training import SelectSetup
from partsynth.records.rows import SelectedRecord, VerdictRecord

DISTANT = {"drift", "other_class"}  # reasons that make a hard negative; the others make no image of a part


@dataclass(frozen=True)
class Candidate:
    """One image of the set, as the training table would have it, and what quality says of it."""

    image: SelectedRecord
    verdict: VerdictRecord | None  # None where there is no table of verdicts


class Rule:
    """A rule takes images by their verdicts, and draws among them.

    Attributes
    ----------
    needs_verdicts : whether it decides by verdicts at all; then none is None.
    """

    needs_verdicts = True

    def takes(self, params: SelectSetup, verdict: VerdictRecord | None) -> bool:
        """Whether an image of this verdict may be taken."""
        raise NotImplementedError

    def draw(self, params: SelectSetup, taken: Sequence[Candidate], setup: str) -> list[Candidate]:
        """Which of those that may be taken are: all, but for ``max_per_class``."""
        return nearest_per_class(taken, params.max_per_class)


def is_fit(verdict: VerdictRecord) -> bool:
    """Whether the image shows a part at all, however far from its class."""
    return set(filter(None, verdict.reasons.split(";"))) <= DISTANT


def by_drift(candidate: Candidate) -> tuple[float, float, str, str]:
    """The least drift from its own class comes first; images without any come first, by hash."""
    image, verdict = candidate.image, candidate.verdict
    if verdict is None or math.isnan(image.percentile):
        return 0.0, 0.0, image.sha256, image.path
    # beyond all real images and within a tolerance percentiles are equal: drift itself tells
    return image.percentile, 0.0 if verdict.tolerated is None else verdict.drift, "", image.path


def nearest_per_class(
    candidates: Sequence[Candidate], most: int | None, place: Callable[[Candidate], Any] = by_drift
) -> list[Candidate]:
    """At most ``most`` of each class, those that come first by ``place``."""
    if most is None:
        return list(candidates)
    return [c for members in by_class(candidates).values() for c in sorted(members, key=place)[:most]]


def by_class(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    """Class name -> its candidates, both in the order they come in."""
    found = defaultdict(list)
    for candidate in candidates:
        found[candidate.image.class_name].append(candidate)
    return dict(found)
