"""Negatives in the denominators of SupCon, and nowhere else."""

from __future__ import annotations

from partsynth.training.use import Use


class Denominator(Use):
    name = "denominator"


MEMBER = Denominator()
