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


def test_mirrored_and_turned_copies_across_splits():
    first = framed("a/1.png", thumbnail=SAME, split="train")
    for n, copy in enumerate((SAME[:, ::-1], np.rot90(SAME), np.rot90(SAME[:, ::-1], 3))):
        other = framed(f"a/{n + 2}.png", thumbnail=np.ascontiguousarray(copy), split="test")
        [pair] = find_duplicates([first, other], 2)
        assert pair.kind == "turned"
        assert "mirrored or turned duplicate of" in duplicate_faults([pair])[0].reason
        assert find_duplicates([first, other.in_split("train")], 2) == []


def test_a_crowd_is_one_fault_and_its_pairs_are_few():
    """Frames of a camera that nobody moved: their number squared would fill the disk."""
    splits = ("train", "val", "test")
    rows = [framed(f"a/{n:03}.png", thumbnail=SAME, split=splits[n % 3]) for n in range(300)]
    pairs = find_duplicates(rows, 2)
    assert len(pairs) == 299
    assert {pair.first.name for pair in pairs} | {pair.second.name for pair in pairs} == {f.photo.name for f in rows}
    [fault] = duplicate_faults(pairs)
    assert fault.name == "a/000.png" and "300 images show the same (100 in a test, 100 in a train" in fault.reason
    assert duplicate_faults(find_duplicates([f.in_split("train") for f in rows], 2)) == []


def test_a_crowd_of_near_duplicates_is_one_fault_too():
    rows = []
    for n in range(40):
        almost = SAME.copy()
        almost[0, n] ^= 1
        rows.append(framed(f"a/{n:03}.png", thumbnail=almost, split="train" if n % 2 else "test"))
    pairs = find_duplicates(rows, 2)
    assert len(pairs) == 39 and len(duplicate_faults(pairs)) == 1
