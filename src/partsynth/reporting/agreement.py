"""How far the gate and people agree about one set, and at which threshold they would agree best.

A person's accept is the truth; drop and other_class are the other side; unsure says nothing. All flagged images are
reviewed as a rule and of the accepted ones a sample, so figures of the whole set weigh each image by how many of its
verdict it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from partsynth.records.review import ReviewRecord
from partsynth.records.rows import VerdictRecord

FEWEST = 5  # images that people accepted, and that they rejected, for a threshold to be told


@dataclass(frozen=True)
class Share:
    """How many of the reviewed images people judged as the gate did."""

    agreeing: int
    reviewed: int
    images: int  # of this verdict in the set

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, at 95 %."""
        from scipy.stats import binomtest

        low, high = binomtest(self.agreeing, self.reviewed).proportion_ci(method="wilson")
        return float(low), float(high)


@dataclass(frozen=True)
class Threshold:
    """A range of drift percentiles: any threshold from ``low`` to below ``high`` judges the reviewed images alike."""

    low: float
    high: float  # inf where no image lies above
    balanced: float  # mean of the shares of accepted and of rejected images that it judges as people did


@dataclass(frozen=True)
class Agreement:
    """Gate and people on the images that people decided about."""

    reviewers: tuple[str, ...]
    unsure: int
    accepted: Share  # by the gate
    flagged: Share
    limit: float | None  # the gate's present threshold, where it is known
    balanced: float | None  # at the present one; None where ``absent`` says why
    best: Threshold | None
    absent: str = ""

    @property
    def reviewed(self) -> int:
        return self.accepted.reviewed + self.flagged.reviewed

    @property
    def agreeing(self) -> int:
        return self.accepted.agreeing + self.flagged.agreeing


def agreement(
    verdicts: Sequence[VerdictRecord], decisions: Mapping[str, ReviewRecord], limit: float | None
) -> Agreement:
    """Of one set.

    Parameters
    ----------
    verdicts : of all its images
    decisions : the one that counts, by the image's path
    limit : ``quality.accept_percentile`` that the verdicts were made with
    """
    firm = [v for v in verdicts if v.path in decisions and decisions[v.path].decision != "unsure"]
    wanted = np.array([decisions[v.path].decision == "accept" for v in firm], dtype=bool)  # (n,) by people
    passed = np.array([not v.reasons for v in firm], dtype=bool)  # (n,) by the gate
    sizes = {True: sum(not v.reasons for v in verdicts), False: sum(bool(v.reasons) for v in verdicts)}
    share = {
        kind: Share(int((wanted == passed)[passed == kind].sum()), int((passed == kind).sum()), sizes[kind])
        for kind in (True, False)
    }
    absent = _why_not(wanted, share)
    balanced, best = None, None
    if not absent:
        weight = np.array([share[bool(p)].images / share[bool(p)].reviewed for p in passed])
        balanced = _balanced(passed, wanted, weight)
        best = _best(firm, wanted, weight, limit)
    return Agreement(
        reviewers=tuple(sorted({row.reviewer for row in decisions.values()})),
        unsure=sum(row.decision == "unsure" for row in decisions.values()),
        accepted=share[True],
        flagged=share[False],
        limit=limit,
        balanced=balanced,
        best=best,
        absent=absent,
    )


def _why_not(wanted: np.ndarray, share: Mapping[bool, Share]) -> str:
    for kind, name in ((True, "accepted"), (False, "flagged")):
        if share[kind].images and not share[kind].reviewed:
            return f"nobody reviewed an image that the gate {name}"
    accepted, rejected = int(wanted.sum()), int((~wanted).sum())
    if min(accepted, rejected) < FEWEST:
        return f"people accepted {accepted} and rejected {rejected}, and at least {FEWEST} of each are needed"
    return ""


def _balanced(passed: np.ndarray, wanted: np.ndarray, weight: np.ndarray) -> float:
    """Mean of the weighted shares of accepted images that pass and of rejected images that do not."""
    right = weight * (passed == wanted)
    return float((right[wanted].sum() / weight[wanted].sum() + right[~wanted].sum() / weight[~wanted].sum()) / 2)


def _best(firm: Sequence[VerdictRecord], wanted: np.ndarray, weight: np.ndarray, limit: float | None) -> Threshold:
    """The range of thresholds on drift with the best balance; of equals that nearest the present threshold.

    All other checks stay as they are: a blurred image does not pass, whatever the threshold.
    """
    percentile = np.array([v.judged for v in firm])
    sound = np.array([set(filter(None, v.reasons.split(";"))) <= {"drift"} for v in firm], dtype=bool)
    cuts = [0.0, *np.unique(percentile[sound]).tolist()]
    found = [
        Threshold(low, high, _balanced(sound & (percentile <= low), wanted, weight))
        for low, high in zip(cuts, [*cuts[1:], float("inf")], strict=True)
    ]

    def away(one: Threshold) -> float:
        present = one.low if limit is None else limit
        return 0.0 if one.low <= present < one.high else min(abs(one.low - present), abs(one.high - present))

    return min(found, key=lambda one: (-round(one.balanced, 12), away(one), one.low))
