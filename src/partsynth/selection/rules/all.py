"""Every image, whatever quality says of it."""

from __future__ import annotations

from partsynth.config.training import SelectSetup
from partsynth.records.rows import VerdictRecord
from partsynth.selection.rule import Rule


class All(Rule):
    needs_verdicts = False

    def takes(self, params: SelectSetup, verdict: VerdictRecord | None) -> bool:
        return True


MEMBER = All()
