"""Drawing splits and shots by group: images of one part or spot never part ways."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from scipy.sparse.csgraph import connected_components

Split = TypeVar("Split", bound=str)
SMALL = 200  # groups up to which the repair also tries swaps


def divided(groups: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Group -> its splits, of every group that several splits have; ``groups`` are (group, split) of each image.

    The rule of ingest and of audits. A held-out class may share groups with the targets: its images then lie in the
    same split as theirs, so that the role of an image does not matter here.
    """
    splits: dict[str, set[str]] = defaultdict(set)
    for group, split in groups:
        splits[group].add(split)
    return {group: there for group, there in sorted(splits.items()) if len(there) > 1}


def draw_splits(
    groups: Sequence[str],
    classes: Sequence[str],
    fractions: Mapping[Split, float],
    least: Mapping[Split, int],
    seed: int,
) -> dict[str, Split]:
    """Assign every group to one split, each class near ``fractions`` in every split.

    Iterative stratification (Sechidis et al. 2011) over groups that may hold images of several classes, then a repair
    that moves or swaps groups while a class has fewer than ``least`` images in a split. What cannot be repaired
    stays: the caller counts. The outcome depends on the names and the seed, not on the order of the images.

    Parameters
    ----------
    groups, classes
        of each image, (N,).
    fractions
        split -> share of each class's images; a split of share 0 stays empty.
    least
        split -> images that each class needs there.
    """
    splits = [s for s, share in fractions.items() if share > 0]
    names, kinds = sorted(set(groups)), sorted(set(classes))
    row, column = {g: i for i, g in enumerate(names)}, {c: i for i, c in enumerate(kinds)}
    counts = np.zeros((len(names), len(kinds)), np.int64)  # (G, C) images
    for group, kind in zip(groups, classes, strict=True):
        counts[row[group], column[kind]] += 1
    share = np.array([fractions[s] for s in splits])
    floor = np.array([least.get(s, 0) for s in splits])
    lot = np.array([hashlib.sha256(f"{seed}/{name}".encode()).hexdigest() for name in names])
    drawn: dict[str, Split] = {}
    for linked in _linked(counts):
        rows = np.flatnonzero(counts[:, linked].any(axis=1))
        own = counts[np.ix_(rows, linked)]
        chosen = _stratify(own, share, np.argsort(lot[rows]))
        _repair(own, chosen, share, floor)
        drawn |= {names[i]: splits[c] for i, c in zip(rows, chosen, strict=True)}
    return drawn


def _linked(counts: np.ndarray) -> list[np.ndarray]:
    """Classes that share groups, directly or through others. Each such family is drawn for itself, so that one more
    class moves no image of the others."""
    count, family = connected_components(counts.T @ counts > 0, directed=False)
    return [np.flatnonzero(family == f) for f in range(count)]


def _stratify(counts: np.ndarray, share: np.ndarray, order: np.ndarray) -> np.ndarray:
    wanted = share[:, None] * counts.sum(axis=0)  # (S, C) images still to be given
    chosen = np.full(len(counts), -1)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    while (chosen < 0).any():
        left = np.flatnonzero(chosen < 0)
        groups_left = (counts[left] > 0).sum(axis=0)
        kind = int(np.argmin(np.where(groups_left > 0, groups_left, len(counts) + 1)))  # the scarcest class first
        having = left[counts[left, kind] > 0]
        for group in sorted(having, key=lambda g: (-counts[g].sum(), rank[g])):  # large groups while there is room
            split = max(range(len(share)), key=lambda s: (wanted[s, kind], wanted[s].sum(), -s))
            chosen[group] = split
            wanted[split] -= counts[group]
    return chosen


def _repair(counts: np.ndarray, chosen: np.ndarray, share: np.ndarray, floor: np.ndarray) -> None:
    total = counts.sum(axis=0)

    def cost(have: np.ndarray) -> tuple[float, float]:
        lack = np.maximum(floor[:, None] - have, 0).sum()
        return float(lack), float(((have / total - share[:, None]) ** 2).sum())

    have = np.stack([counts[chosen == s].sum(axis=0) for s in range(len(share))])  # (S, C)
    while cost(have)[0] > 0:
        best, move = cost(have), None
        for g in range(len(counts)):
            for s in set(range(len(share))) - {chosen[g]}:
                partners = [-1]
                if len(counts) <= SMALL:
                    partners += list(np.flatnonzero(chosen == s))
                for partner in partners:
                    new = have.copy()
                    shift = counts[g] - (counts[partner] if partner >= 0 else 0)
                    new[chosen[g]] -= shift
                    new[s] += shift
                    if cost(new) < best:
                        best, move = cost(new), (g, s, partner, new)
        if move is None:
            return
        g, s, partner, have = move
        if partner >= 0:
            chosen[partner] = chosen[g]
        chosen[g] = s


def draw_shots(groups: Sequence[str], shots: int, seed: int) -> list[int]:
    """Positions of ``shots`` of the images: one from each group in turn, groups and images in a seeded order.

    The first of many shots are the fewer shots of the same seed: a series 1, 2, 4, 8 is nested.
    """
    rng = np.random.default_rng(seed)
    members: dict[str, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    queues = [list(rng.permutation(members[g])) for g in rng.permutation(sorted(members))]
    turns = [(turn, place, int(p)) for place, queue in enumerate(queues) for turn, p in enumerate(queue)]
    return sorted(p for _, _, p in sorted(turns)[:shots])
