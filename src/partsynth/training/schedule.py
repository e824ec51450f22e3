"""Learning rate schedule."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate, in (0, 1]: linear warm-up over ``warmup * steps``, then half a cosine to 0."""
    rising = warmup * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))
