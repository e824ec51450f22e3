"""What quality did not drop; a warning drops nothing."""

from __future__ import annotations

from partsynth.config.training import SelectSetup
from partsynth.records.rows import VerdictRecord
from partsynth.selection.rule import Rule


class Accepted(Rule):
    def takes(self, params: SelectSetup, verdict: VerdictRecord | None) -> bool:
        return verdict is not None and verdict.verdict != "drop"


MEMBER = Accepted()
