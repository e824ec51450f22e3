"""The same photograph twice: in two splits it is a leak, in two classes a contradiction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from partsynth.core.images.duplicates import HASH_BITS, near_pairs
from partsynth.sources.base import Fault, Photo
from partsynth.sources.frame import Framed


@dataclass(frozen=True)
class Pair:
    """Two photographs, sorted by name, that show the same."""

    first: Photo
    second: Photo
    kind: Literal["exact", "near"]
    bits: int  # of HASH_BITS that their perceptual hashes are apart

    @property
    def row(self) -> tuple[str, str, str, int]:
        """As data/real/duplicates.csv has it."""
        return self.first.name, self.second.name, self.kind, self.bits


def find_duplicates(framed: Sequence[Framed], near_duplicate: int) -> list[Pair]:
    """Every exact pair, and the near pairs across splits, sorted by name.

    ``near_duplicate`` is the most bits of 64 that the perceptual hashes of a near pair are apart.
    """
    if not framed:
        return []
    parts = np.unique([f.split for f in framed], return_inverse=True)[1]
    limit = near_duplicate * HASH_BITS // 64
    near = {(i, j): bits for i, j, bits in near_pairs(np.stack([f.thumbnail for f in framed]), parts, limit)}
    same = defaultdict(list)
    for i, f in enumerate(framed):
        same[f.pixels_sha256].append(i)
    exact = dict.fromkeys(((i, j) for twins in same.values() for n, i in enumerate(twins) for j in twins[n + 1 :]), 0)
    pairs = []
    for (i, j), bits in (near | exact).items():
        first, second = sorted((framed[i].photo, framed[j].photo), key=lambda photo: photo.name)
        pairs.append(Pair(first, second, "exact" if (i, j) in exact else "near", bits))
    return sorted(pairs, key=lambda pair: pair.row)


def duplicate_faults(pairs: Sequence[Pair]) -> list[Fault]:
    """The pairs in two splits or in two classes."""
    faults = []
    for pair in pairs:
        a, b = pair.first, pair.second
        if a.split == b.split and a.class_name == b.class_name:
            continue
        where = f"{a.class_name} {a.split} and {b.class_name} {b.split}"
        apart = "" if pair.kind == "exact" else f", {pair.bits} of {HASH_BITS} bits apart"
        reason = f"{pair.kind} duplicate of {b.name} ({where}{apart}; ingest.on_duplicate)"
        faults.append(Fault(a.name, reason, True))
    return faults
