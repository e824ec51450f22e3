"""What each decision does in each kind of setup; the same table stands in docs/review.md."""

from __future__ import annotations

import pytest
from helpers.rows import augmented, decision, real_row, verdict

from partsynth.config.training import SelectSetup
from partsynth.selection.reviewed import keeps_out, obeyed, reviewed
from partsynth.selection.table import chosen, selected

SOURCE = real_row("gear/0", "train", "gear-0")
POSITIVE = SelectSetup(role="positive", rule="accepted")
BAND = SelectSetup(role="positive", rule="band", band=(0.9, 1.0))
NEGATIVE = SelectSetup(role="negative", rule="band", band=(0.9, 1.0))
OTHER = SelectSetup(role="negative", rule="accepted", train={"negative_scope": "other"})
ALL = SelectSetup(role="positive", rule="all")


def taken(params: SelectSetup, told: str | None, percentile: float, reasons: str = "", judged: bool = True) -> bool:
    """Whether the setup takes one image with these measures and this decision."""
    image = augmented(SOURCE, "x")
    rows = [] if told is None else [decision(image, told, other_class="disc" if told == "other_class" else "")]
    row = selected(image, params.role)
    verdicts = {row.path: verdict(image, percentile, "drop" if reasons else "accept", reasons)} if judged else None
    return bool(chosen([row], verdicts, [], params, "x", obeyed(rows, [image])))


@pytest.mark.parametrize(
    ("told", "near", "far", "blurred"),
    [
        (None, True, False, False),
        ("unsure", True, False, False),
        ("accept", True, True, True),
        ("drop", False, False, False),
        ("other_class", False, False, False),
    ],
)
def test_in_a_setup_of_accepted_positives_a_person_decides(told: str, near: bool, far: bool, blurred: bool) -> None:
    assert taken(POSITIVE, told, 0.5) is near
    assert taken(POSITIVE, told, 0.99, "drift") is far
    assert taken(POSITIVE, told, 0.5, "blurred") is blurred


@pytest.mark.parametrize(
    ("told", "near", "far", "blurred"),
    [
        (None, False, True, False),
        ("unsure", False, True, False),
        ("accept", False, True, True),  # sound by a person's word, but the band is of what is measured
        ("drop", False, False, False),
        ("other_class", False, False, False),
    ],
)
def test_a_band_of_positives_is_of_sound_images(told: str, near: bool, far: bool, blurred: bool) -> None:
    assert taken(BAND, told, 0.5) is near
    assert taken(BAND, told, 0.99, "drift") is far
    assert taken(BAND, told, 0.99, "blurred;drift") is blurred


@pytest.mark.parametrize(
    ("told", "far", "blurred"),
    [
        (None, True, False),
        ("unsure", True, False),
        ("accept", False, False),  # it would push its class from an image of the class
        ("drop", False, False),
        ("other_class", True, False),  # a hard negative, where it is one by all other checks
    ],
)
def test_negatives_are_images_that_do_not_show_their_class(told: str, far: bool, blurred: bool) -> None:
    assert taken(NEGATIVE, told, 0.99, "drift") is far
    assert taken(NEGATIVE, told, 0.99, "blurred;drift") is blurred


def test_negatives_of_other_classes_are_images_of_their_own() -> None:
    """With negative_scope other the loss pushes other classes from an image: it must show its own."""
    assert [taken(OTHER, t, 0.99, "drift") for t in (None, "accept", "drop", "other_class")] == [0, 1, 0, 0]


@pytest.mark.parametrize("judged", [True, False])
def test_a_rule_that_asks_for_no_verdict_obeys_people_too(judged: bool) -> None:
    told = (None, "unsure", "accept", "drop", "other_class")
    assert [taken(ALL, t, 0.99, "drift", judged) for t in told] == [True, True, True, False, False]


def test_the_nearest_class_is_what_a_person_says() -> None:
    image = augmented(SOURCE, "x")
    gate = verdict(image, 0.99, "drop", "other_class", nearest_class="disc")
    accepted = reviewed(gate, decision(image, "accept"))
    assert (accepted.verdict, accepted.reasons, accepted.nearest_class) == ("accept", "", "gear")
    assert (accepted.drift, accepted.percentile) == (gate.drift, gate.percentile)
    other = reviewed(verdict(image, 0.5, "drop", "blurred"), decision(image, "other_class", other_class="cog"))
    assert (other.verdict, other.reasons, other.nearest_class) == ("drop", "blurred;other_class", "cog")
    assert reviewed(gate, decision(image, "unsure")) is gate is reviewed(gate, None)


def test_a_decision_is_of_bytes() -> None:
    image = augmented(SOURCE, "x")
    assert obeyed([decision(image, "drop", sha256="older")], [image]) == {}
    assert obeyed([decision(image, "drop")], [image])[image.path].decision == "drop"


def test_what_keeps_an_image_out() -> None:
    told = {d: decision("x", d) for d in ("accept", "drop", "other_class", "unsure")}
    kept_out = {name: [d for d in told if keeps_out(told[d], p)] for name, p in (("+", POSITIVE), ("-", NEGATIVE))}
    assert kept_out == {"+": ["drop", "other_class"], "-": ["accept", "drop"]}
