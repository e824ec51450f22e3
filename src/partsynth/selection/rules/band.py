"""Fit images whose drift lies in a band: near the class, but outside it."""

from __future__ import annotations

from partsynth.config.training import SelectSetup
from partsynth.records.rows import VerdictRecord
from partsynth.selection.rule import Rule, is_fit


class Band(Rule):
    """First < percentile <= second of ``select.band`` (of drift less ``quality.tolerance``), and drift of at most
    ``select.cap``, whatever the verdict on drift; but no blurred, blank or otherwise unfit image."""

    def takes(self, params: SelectSetup, verdict: VerdictRecord | None) -> bool:
        return verdict is not None and is_fit(verdict) and in_band(params, verdict)


def in_band(params: SelectSetup, verdict: VerdictRecord) -> bool:
    low, high = params.band
    return low < verdict.judged <= high and (params.cap is None or verdict.drift <= params.cap)


MEMBER = Band()
