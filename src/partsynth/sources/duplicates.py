"""The same photograph twice: in two splits it is a leak, in two classes a contradiction."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from partsynth.core.images.duplicates import HASH_BITS, components, near_pairs, turned_pairs
from partsynth.sources.base import Fault, Photo
from partsynth.sources.frame import Framed

CROWD = 8  # of more images that show the same, each is paired with the first alone: not their number squared
Kind = Literal["exact", "near", "turned"]


@dataclass(frozen=True)
class Pair:
    """Two photographs, sorted by name, that show the same."""

    first: Photo
    second: Photo
    kind: Kind  # turned: once one is mirrored or turned by quarters
    bits: int  # of HASH_BITS that their perceptual hashes are apart

    @property
    def row(self) -> tuple[str, str, str, int]:
        """As data/real/duplicates.csv has it."""
        return self.first.name, self.second.name, self.kind, self.bits


def find_duplicates(framed: Sequence[Framed], near_duplicate: int) -> list[Pair]:
    """Every exact pair, and the near and turned pairs across splits, sorted by name.

    Of more than CROWD photographs that show the same, those pairs alone that link them all.

    ``near_duplicate`` is the most bits of 64 that the perceptual hashes of a near pair are apart.
    """
    if not framed:
        return []
    found = _exact(framed)
    limit = near_duplicate * HASH_BITS // 64
    some = _one_of_each_crowd(framed)
    thumbs = np.stack([framed[i].thumbnail for i in some])
    parts = np.unique([framed[i].split for i in some], return_inverse=True)[1]
    searches: list[tuple[Kind, Callable[..., list[tuple[int, int, int]]]]]
    searches = [("near", near_pairs), ("turned", turned_pairs)]
    for kind, search in searches:
        for a, b, bits in search(thumbs, parts, limit):
            found.setdefault((some[a], some[b]), (kind, bits))
    pairs = []
    for (i, j), (kind, bits) in _thinned(found, len(framed)).items():
        first, second = sorted((framed[i].photo, framed[j].photo), key=lambda photo: photo.name)
        pairs.append(Pair(first, second, kind, bits))
    return sorted(pairs, key=lambda pair: pair.row)


def duplicate_faults(pairs: Sequence[Pair]) -> list[Fault]:
    """The pairs in two splits or in two classes; more than CROWD photographs that show the same are one fault."""
    photos = {photo.name: photo for pair in pairs for photo in (pair.first, pair.second)}
    names = {name: i for i, name in enumerate(photos)}
    label = components([(names[p.first.name], names[p.second.name]) for p in pairs], len(names))
    members = defaultdict(list)
    for name, i in names.items():
        members[label[i]].append(photos[name])
    faults = []
    for crowd in members.values():
        where = Counter(f"{p.class_name} {p.split}" for p in crowd)
        if len(crowd) > CROWD and len(where) > 1:
            told = ", ".join(f"{n} in {place}" for place, n in sorted(where.items()))
            reason = f"{len(crowd)} images show the same ({told}): keep one (ingest.on_duplicate)"
            faults.append(Fault(min(p.name for p in crowd), reason, True))
    for pair in pairs:
        a, b = pair.first, pair.second
        if (a.split == b.split and a.class_name == b.class_name) or len(members[label[names[a.name]]]) > CROWD:
            continue
        where_ = f"{a.class_name} {a.split} and {b.class_name} {b.split}"
        apart = "" if pair.kind == "exact" else f", {pair.bits} of {HASH_BITS} bits apart"
        reason = f"{_NAMES[pair.kind]} of {b.name} ({where_}{apart}; ingest.on_duplicate)"
        faults.append(Fault(a.name, reason, True))
    return faults


_NAMES: dict[Kind, str] = {
    "exact": "exact duplicate",
    "near": "near duplicate",
    "turned": "mirrored or turned duplicate",
}
Found = dict[tuple[int, int], tuple[Kind, int]]  # indices of two photographs, in order -> kind and bits


def _exact(framed: Sequence[Framed]) -> Found:
    found: Found = {}
    for twins in _twins(framed):
        heads = twins if len(twins) <= CROWD else twins[:1]
        for n, i in enumerate(heads):
            for j in twins[n + 1 :]:
                found[i, j] = ("exact", 0)
    return found


def _twins(framed: Sequence[Framed]) -> list[list[int]]:
    """The photographs of the same pixels, several each."""
    same = defaultdict(list)
    for i, f in enumerate(framed):
        same[f.pixels_sha256].append(i)
    return [twins for twins in same.values() if len(twins) > 1]


def _one_of_each_crowd(framed: Sequence[Framed]) -> list[int]:
    """All photographs, but of a crowd of exact duplicates one per split."""
    dropped: set[int] = set()
    for twins in _twins(framed):
        if len(twins) > CROWD:
            kept = {framed[i].split: i for i in reversed(twins)}
            dropped |= set(twins) - set(kept.values())
    return [i for i in range(len(framed)) if i not in dropped]


def _thinned(found: Found, count: int) -> Found:
    """The pairs; of a crowd those that link a photograph to it for the first time."""
    pairs = sorted(found)
    label = components(pairs, count)
    sizes = np.bincount(label, minlength=1)
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    kept: Found = {}
    for i, j in pairs:
        if sizes[label[i]] > CROWD:
            a, b = root(i), root(j)
            if a == b:
                continue
            parent[b] = a
        kept[i, j] = found[i, j]
    return kept
