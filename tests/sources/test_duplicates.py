from __future__ import annotations

import numpy as np
from helpers.photos import framed

from partsynth.sources.duplicates import duplicate_faults, find_duplicates

SAME = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
ALMOST = SAME.copy()
ALMOST[0, 0] ^= 1  # another file, the same photograph


def test_exact_pairs_everywhere_and_near_pairs_across_splits():
    rows = [
        framed("b/2.png", thumbnail=SAME, split="train"),
        framed("a/1.png", thumbnail=SAME, split="train"),
        framed("a/3.png", thumbnail=ALMOST, split="test"),
        framed("a/4.png", thumbnail=ALMOST.copy(), split="test"),
        framed("a/5.png", split="test"),
    ]
    assert [pair.row for pair in find_duplicates(rows, 2)] == [
        ("a/1.png", "a/3.png", "near", 0),
        ("a/1.png", "a/4.png", "near", 0),
        ("a/1.png", "b/2.png", "exact", 0),
        ("a/3.png", "a/4.png", "exact", 0),
        ("a/3.png", "b/2.png", "near", 0),
        ("a/4.png", "b/2.png", "near", 0),
    ]
    assert find_duplicates([], 2) == []


def test_pairs_in_two_splits_or_two_classes_are_faults():
    def told(*rows) -> list[str]:
        faults = duplicate_faults(find_duplicates(rows, 2))
        assert all(f.fatal for f in faults)
        return [f"{f.name}: {f.reason}" for f in faults]

    first = framed("a/1.png", thumbnail=SAME, split="train")
    assert told(first, framed("a/2.png", thumbnail=SAME, split="train")) == []
    assert told(framed("b/2.png", thumbnail=SAME, split="train"), first) == [
        "a/1.png: exact duplicate of b/2.png (a train and b train; ingest.on_duplicate)"
    ]
    assert told(first, framed("a/2.png", thumbnail=ALMOST, split="val")) == [
        "a/1.png: near duplicate of a/2.png (a train and a val, 0 of 256 bits apart; ingest.on_duplicate)"
    ]
