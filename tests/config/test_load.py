"""Sections and entries are read alone, and what cannot be read is a user's error."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.params import faults, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partsynth.augmentation.methods.sdedit import SdeditSet
from partsynth.config import load as config_load
from partsynth.config.params import Params
from partsynth.config.training import Evaluate, Train
from partsynth.errors import UserError

SECTIONS = list(Params.model_fields)
KEYS = st.sampled_from(SECTIONS) | st.text(max_size=5)


def test_an_empty_section_has_the_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, "train:\nsets: {id: {strength: 0.2}}\n")
    assert config_load.load("train", path) == Train()
    assert config_load.load("sets.id", path) == SdeditSet(strength=0.2)
    assert config_load.load("sets", path) == {"id": SdeditSet(strength=0.2)}
    assert config_load.load("evaluate", path) == Evaluate()


def test_a_stage_is_not_stopped_by_another_section(tmp_path: Path) -> None:
    path = write(tmp_path, {"train": {"steps": 5}, "report": {"titel": "x"}})
    assert config_load.load("train", path).steps == 5
    with pytest.raises(UserError, match="did you mean title"):
        config_load.load("report", path)


def test_entries_that_are_missing_are_answered_with_those_there_are(tmp_path: Path) -> None:
    path = write(tmp_path, {"sets": {"id": {"strength": 0.2}}})
    with pytest.raises(UserError, match="sets has no entry 'far'; it has id"):
        config_load.load("sets.far", path)
    with pytest.raises(UserError, match="no section 'sett'"):
        config_load.load("sett", path)


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "just words"])
def test_what_is_no_mapping_is_said_so(tmp_path: Path, text: str) -> None:
    assert "params.yaml" in faults(tmp_path, text)


def test_values_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    path = write(tmp_path, "train: {precision: no, learning_rate: 1e-3}\nood: {holdout_classes: [NO, 12:30, on]}\n")
    train = config_load.load("train", path)
    assert (train.precision, train.learning_rate) == ("no", 0.001)
    assert config_load.load("ood", path).holdout_classes == ["NO", "12:30", "on"]


@pytest.mark.parametrize(
    ("word", "meant"), [("yes", True), ("On", True), ("OFF", False), ("no", False), ("true", True)]
)
def test_where_true_or_false_belongs_words_for_it_are_taken(tmp_path: Path, word: str, meant: bool) -> None:
    path = write(tmp_path, f"tokens: {{flips: {word}}}\n")
    assert config_load.load("tokens", path).flips is meant
    assert "should be" in faults(tmp_path, f"tokens: {{flips: {word}, steps: yes}}")


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="partsynth init"):
        config_load.load("train", tmp_path / "none.yaml")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    strength=st.one_of(st.floats(0, 1), st.lists(st.floats(0, 1), min_size=1, max_size=4)),
    variants=st.integers(0, 9),
    states=st.lists(st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=9), max_size=3),
)
def test_good_sets_survive_the_way_through_yaml(
    tmp_path: Path, strength: object, variants: int, states: list[str]
) -> None:
    made = SdeditSet(strength=strength, variants=variants, states=states)
    path = write(tmp_path, {"sets": {"a": made.model_dump(mode="json")}})
    assert config_load.load("sets.a", path) == made


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_yaml_either_loads_or_is_a_user_error(tmp_path: Path, content: object) -> None:
    path = write(tmp_path, content)
    try:
        config_load.load_all(path)
    except UserError as error:
        assert str(error)


def test_a_section_without_entries_has_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train has no entry 'steps'; it has none"):
        config_load.load("train.steps", write(tmp_path, {"train": {"steps": 3}}))
