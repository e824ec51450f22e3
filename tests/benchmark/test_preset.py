"""The shipped benchmark compares like with like: a control differs from what it is compared with in one thing."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from partsynth.config.data import Render
from partsynth.project.shipped import presets
from partsynth.rendering import catalog
from partsynth.rendering.negatives import unlisted

RAW = yaml.safe_load(presets()["benchmark"].read_text())
SETS, SELECT, SETUPS = RAW["sets"], RAW["select"], RAW["benchmark"]["setups"]


def differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def test_edits_in_states_outside_the_shift_differ_in_their_states_alone() -> None:
    shift = {state for state, _ in catalog.SHIFTED.states}
    assert shift & set(SETS["id"]["states"])  # the control is needed
    assert not shift & set(SETS["id_outside"]["states"])
    assert differing(SETS["id"], SETS["id_outside"]) == {"states"}
    assert SELECT["real_id"] == SELECT["real_id_outside"]


def test_round_trips_differ_in_strength_alone() -> None:
    assert differing(SETS["id"], SETS["vae"]) == {"strength"} and SETS["vae"]["strength"] == 0


def test_mixed_siblings_differ_from_words_in_where_the_form_comes_from_alone() -> None:
    assert differing(SETS["words"], SETS["siblings"]) == {"concept", "words", "siblings", "mix"}


def test_negatives_have_the_positives_light_wear_and_grain_and_each_class_at_most_as_many() -> None:
    negatives = {name for name, select in SELECT.items() if select["role"] == "negative"}
    assert negatives
    for name in negatives:
        assert SETS[SETUPS[name]["set"]]["restore"] == SETS["id"]["restore"]
        assert SELECT[name]["max_per_class"] == SELECT["real_id_negatives"]["max_per_class"]
    for key in ("strength", "guidance", "states", "restore_sigma"):
        assert SETS["words"][key] == SETS["id"][key]


def test_words_name_nothing_that_is_tested_on() -> None:
    assert unlisted(SETS["words"]["words"]) == []


def test_uses_of_negatives_differ_in_the_use_alone() -> None:
    def without_use(name: str) -> dict[str, Any]:
        use = ("negative_use", "negative_use_weight", "head_gradient")
        train = {k: v for k, v in SELECT[name]["train"].items() if k not in use}
        return SELECT[name] | {"train": train, "set": SETUPS[name]["set"]}

    assert without_use("real_id_denominator") == without_use("real_id_mixoe") == without_use("real_id_negatives")
    assert without_use("real_id_held") == without_use("real_id_negatives")
    assert SELECT["real_id_siblings"] == SELECT["real_id_negatives"]
    head = SELECT["real_id_head"]["train"]["negative_use"]
    assert head == SELECT["real_id_negatives"]["train"]["negative_use"]
    assert SELECT["real_id_head"] == SELECT["real_id"] | {"train": {"negative_use": head}}


def test_no_setup_takes_for_negatives_what_is_an_anchor_already() -> None:
    assert all(SETUPS[n].get("set", "real") != "real" for n, s in SELECT.items() if s["role"] == "negative")


@pytest.mark.parametrize(("name", "key", "value"), [("real_randaugment", "augment", "both")])
def test_views_are_added_to_the_standard_ones(name: str, key: str, value: str) -> None:
    assert SELECT[name] == SELECT["real"] | {"train": {key: value}}


def test_networks_with_outside_supervision_stand_beside_the_result() -> None:
    trained = {name: select["train"] for name, select in SELECT.items() if "backbone" in select.get("train", {})}
    found = {(train["backbone"], train["trainable"] == "none") for train in trained.values()}
    assert found == {("reference", True), ("efficientnet_lite0", True), ("efficientnet_lite0", False)}
    assert all(SETUPS[name]["against"] == ["real", "real_id"] for name in trained)


def test_the_page_says_what_the_edits_and_the_choices_know_of_the_test() -> None:
    notes = " ".join(RAW["benchmark"]["notes"])
    for state in SETS["id"]["states"]:
        assert state in notes
    assert "real_id_outside" in notes and "real_reference" in notes and "OOD variants" in notes


def test_choices_are_made_on_development_renders_of_what_the_benchmark_has() -> None:
    """presets/benchmark-demo chose the number of photographs: its edits are fewer."""
    development = yaml.safe_load(presets()["benchmark-development"].read_text())
    few = yaml.safe_load(presets()["benchmark-demo"].read_text())
    for preset in (development, few):
        assert preset["render"]["roles"] == "development" and "roles" not in RAW["render"]
        assert not set(preset["benchmark"]["seeds"]) & set(RAW["benchmark"]["seeds"])
        for section in ("diffusion", "reference", "tokens", "generate"):
            assert preset[section] == RAW[section]
        assert preset["sets"]["id"] | {"variants": SETS["id"]["variants"]} == SETS["id"]
    for section in ("ingest", "quality"):
        assert development[section] == RAW[section]
    for name in ("id", "words"):
        assert development["sets"][name] == SETS[name]
    for name in ("real", "real_id", "real_id_head", "real_id_negatives", "real_id_held"):
        assert development["select"][name] == SELECT[name]
    for key in ("temperature", "negative_weight", "synthetic_share"):
        assert development["train"][key] == RAW["train"][key]
    assert RAW["ingest"]["shots"] in few["benchmark"]["few_shot"]["shots"]


def test_the_curve_is_by_the_number_of_photographs() -> None:
    parts = Render.model_validate(RAW["render"]).instances.train
    assert RAW["ingest"]["shots"] == RAW["ingest"]["val_shots"] == 4
    assert RAW["benchmark"]["few_shot"]["shots"] == [2, 8, 16] and 2 * parts == 16  # two cameras
