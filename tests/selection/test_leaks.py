from __future__ import annotations

from helpers.rows import augmented, exchanged, real_row

from partsynth.selection.leaks import leaks
from partsynth.selection.table import selected

GEAR, DISC = real_row("gear/0", "train", "gear-0"), real_row("disc/0", "train", "disc-0")
REAL = [GEAR, DISC, real_row("gear/7", "val", "gear-7"), real_row("gear/8", "test", "gear-8")]


def faults(*edits, real=REAL) -> str:
    return "\n".join(leaks([selected(edit, "positive") for edit in edits], real))


def test_what_goes_back_to_training_images_is_no_leak() -> None:
    assert faults(augmented(GEAR, "0_0"), augmented(GEAR, "0_1"), augmented(DISC, "0_0")) == ""


def test_a_source_outside_training() -> None:
    assert faults(augmented(REAL[2], "7_0")).endswith("its source data/real/val/gear/7.png is no training image")
    assert "is no training image" in faults(augmented(GEAR, "0_0", source="data/real/train/gear/gone.png"))


def test_another_class_or_group_than_the_source() -> None:
    assert "class and group are disc, gear-0; its source's gear, gear-0" in faults(
        augmented(GEAR, "0_0", class_name="disc")
    )
    assert "class and group are gear, gear-7" in faults(augmented(GEAR, "0_0", source_group="gear-7"))


def test_a_group_that_is_held_out_too() -> None:
    assert faults(augmented(GEAR, "0_0"), real=[*REAL, real_row("disc/9", "test", "gear-0")]).endswith(
        "its group gear-0 is also in test"
    )


def test_a_donor_outside_training_or_of_a_held_out_group() -> None:
    assert faults(exchanged(GEAR, DISC)) == ""
    assert "its donor data/real/val/gear/7.png is no training image" in faults(exchanged(GEAR, REAL[2]))
    assert "its donor's group is gear-7; data/real/train/disc/0.png has disc-0" in faults(
        exchanged(GEAR, DISC, donor_group="gear-7")
    )
    held = [*REAL, real_row("disc/9", "test", "disc-0")]
    assert "its donor's group disc-0 is also in test" in faults(exchanged(GEAR, DISC), real=held)


def test_twice_in_a_table() -> None:
    edit = selected(augmented(GEAR, "0_0"), "positive")
    assert "selected twice" in "\n".join(leaks([edit, edit], REAL))
    assert "selected twice" in "\n".join(leaks([edit, edit.model_copy(update={"role": "negative"})], REAL))
    both = [selected(GEAR, "positive"), selected(GEAR, "negative")]  # of its class, and of the others
    assert leaks(both, REAL) == []
    assert "selected twice" in "\n".join(leaks([*both, both[0]], REAL))
