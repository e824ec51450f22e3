"""Fit images that are nobody's: beyond the edge of every class, and not far beyond the nearest."""

from __future__ import annotations

import math
from collections.abc import Sequence

from partsynth.config.training import SelectSetup
from partsynth.errors import UserError
from partsynth.records.rows import VerdictRecord
from partsynth.selection.rule import Candidate, Rule, is_fit, nearest_per_class


class Nobody(Rule):
    """First < percentile of the least drift of all classes <= second of ``select.band``, and that drift of at most
    ``select.cap``, whatever the verdict on drift; but no blurred, blank or otherwise unfit image.

    The least, in each class's own standard deviations, is high only where no class is near: a negative by drift from
    its own class alone may be a good image of a sibling.
    """

    def draw(self, params: SelectSetup, taken: Sequence[Candidate], setup: str) -> list[Candidate]:
        """Of ``max_per_class`` the nearest to any class."""
        return nearest_per_class(taken, params.max_per_class, _least)

    def takes(self, params: SelectSetup, verdict: VerdictRecord | None) -> bool:
        if verdict is None:
            return False
        if verdict.nobody is None or verdict.least_drift is None:
            raise UserError(
                f"rule nobody needs drift from every class, which the verdicts on set {verdict.set_name} do not have: "
                "set quality.all_classes to true in params.yaml and run quality again (dvc repro)"
            )
        low, high = params.band
        near = params.cap is None or verdict.least_drift <= params.cap
        return is_fit(verdict) and low < verdict.nobody <= high and near


def _least(candidate: Candidate) -> tuple[float, str]:
    verdict = candidate.verdict
    return (math.inf if verdict is None or verdict.least_drift is None else verdict.least_drift), candidate.image.path


MEMBER = Nobody()
