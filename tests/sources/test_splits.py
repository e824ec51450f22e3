from __future__ import annotations

from collections import Counter, defaultdict

from helpers.photos import framed

from partsynth.config.data import Ingest, Ood
from partsynth.sources.frame import Framed
from partsynth.sources.splits import assign, hold_out

PARAMS = Ingest(source="folder", min_per_class=3)


def photos(*classes: str, spots: int = 8, each: int = 2, shared: bool = False) -> list[Framed]:
    """``each`` photographs of ``spots`` spots per class; the classes share the spots, or have spots of their own."""
    return [
        framed(f"{name}/{spot}_{i}.png", f"spot{spot}" if shared else f"{name}{spot}")
        for name in classes
        for spot in range(spots)
        for i in range(each)
    ]


def groups(rows: list[Framed]) -> dict[str, set[str]]:
    found = defaultdict(set)
    for row in rows:
        found[row.photo.group].add(row.split)
    return found


def test_groups_stay_together_and_every_class_is_everywhere():
    done = assign(photos("a", "b", shared=True), PARAMS)
    assert not done.faults and len(done.framed) == 32
    assert all(len(splits) == 1 for splits in groups(done.framed).values())
    have = Counter((f.photo.class_name, f.split) for f in done.framed)
    assert all(have[name, split] for name in "ab" for split in ("train", "val", "test"))


def test_splits_of_the_source_are_kept():
    rows = [f.in_split(("train", "val", "test", "shifted")[i % 4]) for i, f in enumerate(photos("a", "b", each=4))]
    given = [
        framed(f.photo.name, f"{f.photo.group}-{f.split}", split=f.split) for f in rows
    ]  # a group of the source's own in each split
    assert [f.photo for f in assign(given, PARAMS).framed] == [f.photo for f in given]


def test_a_group_in_several_splits_of_the_source_is_a_fault():
    rows = [framed(f"{k}/{i}.png", "g", split="train" if i else "test") for k in "ab" for i in range(4)]
    told = [f for f in assign(rows, PARAMS).faults if f.name == "g"]
    assert [(f.reason, f.fatal) for f in told] == [("one group in several splits: test, train", True)]


def test_small_classes_are_faults_or_left_out():
    rows = [*photos("a", "b"), framed("few/1.png"), framed("few/2.png")]
    fails = assign(rows, PARAMS)
    assert [f.name for f in fails.faults] == ["few"] and not fails.faults[0].fatal
    assert "it has 2 groups, and a group is never divided" in fails.faults[0].reason
    skips = assign(rows, PARAMS.model_copy(update={"on_bad": "skip"}))
    assert skips.faults == fails.faults and {f.photo.class_name for f in skips.framed} == {"a", "b"}
    assert [f.photo for f in skips.framed] == [f.photo for f in assign(photos("a", "b"), PARAMS).framed]
    alone = assign(photos("a"), PARAMS).faults
    assert [(f.name, f.fatal) for f in alone] == [("classes", True)] and "1 left to tell apart" in alone[0].reason


def test_held_out_classes_become_near_ood_by_either_name():
    rows = photos("brake", "gear", "disc")
    held, faults = hold_out(rows, {"brake": "brake (rear)", "gear": "gear", "disc": "disc"}, Ood(holdout_classes=[]))
    assert held == rows and not faults
    for name in ("brake", "brake (rear)"):
        held, faults = hold_out(rows, {"brake": "brake (rear)", "gear": "gear"}, Ood(holdout_classes=[name]))
        assert {(f.photo.class_name, f.photo.role) for f in held} == {
            ("brake", "near_ood"),
            ("gear", "target"),
            ("disc", "target"),
        }
    _, faults = hold_out(rows, {"gear": "gear"}, Ood(holdout_classes=["geer"]))
    assert [(f.reason, f.fatal) for f in faults] == [("'geer' is no class of the source; there are: gear", True)]
    done = assign(held, PARAMS)
    assert {f.split for f in done.framed if f.photo.role == "near_ood"} == {"val", "test"} and done.known == 0


def test_a_held_out_photograph_of_a_trained_spot_is_left_out():
    rows, _ = hold_out(photos("a", "b", "c", shared=True), {k: k for k in "abc"}, Ood(holdout_classes=["c"]))
    done = assign(rows, PARAMS)
    near = [f for f in done.framed if f.photo.role == "near_ood"]
    assert all(len(splits) == 1 for splits in groups(done.framed).values())
    assert 0 < len(near) == 16 - done.known < 16


def test_few_shots_leave_the_other_splits_alone():
    rows = photos("a", "b")
    full, few = assign(rows, PARAMS).framed, assign(rows, PARAMS.model_copy(update={"shots": 2, "val_shots": 1})).framed
    have = Counter((f.photo.class_name, f.split) for f in few)
    assert all(have[name, "train"] == 2 and have[name, "val"] == 1 for name in "ab")
    names = {f.photo.name: f.split for f in full}
    assert all(names[f.photo.name] == f.split for f in few)
    assert {f.photo.name for f in few if f.split == "test"} == {
        name for name, split in names.items() if split == "test"
    }


def test_a_split_that_the_source_lacks_is_drawn_out_of_train():
    """train/ and test/ alone, as many share their data."""
    rows = [f.in_split("test" if i % 4 == 3 else "train") for i, f in enumerate(photos("a", "b", each=1))]
    done = assign(rows, PARAMS)
    assert not done.faults
    have = Counter((f.photo.class_name, f.split) for f in done.framed)
    assert all(have[name, "test"] == 2 and have[name, "val"] >= 1 and have[name, "train"] >= 3 for name in "ab")
    kept = {f.photo.name for f in done.framed if f.split == "test"}
    assert kept == {f.photo.name for f in rows if f.split == "test"}


def test_shifted_photographs_stay_and_the_others_are_drawn():
    rows = photos("a", "b")
    shifted = [f.in_split("shifted") for f in photos("a", "b", spots=12)[-6:]]
    done = assign([*rows, *(f for f in shifted if f.photo.group not in {r.photo.group for r in rows})], PARAMS)
    assert {f.split for f in done.framed} == {"train", "val", "test", "shifted"} and not done.faults
    drawn = {f.photo.name: f.split for f in done.framed if f.split != "shifted"}
    assert drawn == {f.photo.name: f.split for f in assign(rows, PARAMS).framed}
