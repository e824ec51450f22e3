"""Learning rates over a training, as shares of the peak."""

from __future__ import annotations

import math


def half_cosine(step: float, steps: float) -> float:
    """From 1 at step 0 down to 0 at ``steps`` (Loshchilov & Hutter 2016, arXiv 1608.03983, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate, in (0, 1]: linear over the first ``warmup`` steps, then half a cosine to 0.

    Parameters
    ----------
    step : from 0 to ``steps`` - 1.
    warmup : in steps, from 0 to ``steps``; it need not be whole. The peak itself is the first step after it.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return half_cosine(step - warmup, max(steps - warmup, 1))


def cosine_with_warmup(step: int, steps: int, warmup: int, floor: float) -> float:
    """Share of the peak learning rate, in (0, 1]: half a cosine over all steps down to ``floor``, times the warm-up.

    The embedded base model was trained with it: other than in ``warmup_cosine`` the cosine falls from step 0 on.
    """
    return min(1.0, (step + 1) / max(1, warmup)) * (floor + (1 - floor) * half_cosine(step, steps))
