"""As many fit images of each class as rule band would take, of any drift: the control for the band."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from partsynth.config.training import SelectSetup
from partsynth.records.rows import VerdictRecord
from partsynth.selection.rule import Candidate, Rule, by_class, is_fit, nearest_per_class
from partsynth.selection.rules.band import in_band
from partsynth.store.hashing import seed_from


class Random(Rule):
    def takes(self, params: SelectSetup, verdict: VerdictRecord | None) -> bool:
        return verdict is not None and is_fit(verdict)

    def draw(self, params: SelectSetup, taken: Sequence[Candidate], setup: str) -> list[Candidate]:
        """An image's place in the lot depends on setup and content alone."""
        band = [c for c in taken if c.verdict is not None and in_band(params, c.verdict)]
        counts = Counter(c.image.class_name for c in nearest_per_class(band, params.max_per_class))
        lot = sorted(taken, key=lambda c: (seed_from("random", setup, c.image.sha256), c.image.path))
        return [c for name, members in by_class(lot).items() for c in members[: counts[name]]]


MEMBER = Random()
