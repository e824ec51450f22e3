"""params.yaml: every fault named at once, with what is allowed; only good values pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from partsynth.augmentation.methods.sdedit import SdeditSet
from partsynth.config import load as config_load
from partsynth.config.params import Params
from partsynth.config.training import Evaluate, Train
from partsynth.errors import UserError

SECTIONS = list(Params.model_fields)
KEYS = st.sampled_from(SECTIONS) | st.text(max_size=5)


def write(folder: Path, content: object) -> Path:
    path = folder / "params.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def faults(folder: Path, content: object) -> str:
    with pytest.raises(UserError) as caught:
        config_load.load_all(write(folder, content))
    return str(caught.value)


def test_an_empty_section_has_the_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, "train:\nsets: {id: {strength: 0.2}}\n")
    assert config_load.load("train", path) == Train()
    assert config_load.load("sets.id", path) == SdeditSet(strength=0.2)
    assert config_load.load("sets", path) == {"id": SdeditSet(strength=0.2)}
    assert config_load.load("evaluate", path) == Evaluate()


def test_all_faults_come_at_once_and_by_name(tmp_path: Path) -> None:
    text = faults(
        tmp_path,
        {
            "train": {"temprature": 0.1, "steps": "many", "anchors": 0, "precision": "fp8"},
            "ingest": {"source": "cloud", "fractions": {"train": 0.5, "val": 0.1, "test": 0.1}, "group_pattern": "("},
            "render": {"samples": 24},
            "diffusion": {"size": 60},
            "tokens": {"templates": ["a photo"]},
            "nonsense": {},
        },
    )
    for part in (
        "train.temprature: unknown key, did you mean temperature. Allowed: backbone, width, ",
        'train.steps: should be a whole number (found "many")',
        "train.anchors: should be greater than or equal to 1 (found 0)",
        "'no', 'bf16' or 'fp16'",
        "'rendered', 'mvip' or 'folder'",
        "ingest.fractions: needs train, val and test, summing to 1",
        "ingest.group_pattern: not a regular expression",
        "24 is not a square number",
        "60 is not a multiple of 8",
        "every template needs {token}",
        "nonsense: unknown key",
    ):
        assert part in text
    assert "fault(s)" in text.splitlines()[0]


@pytest.mark.parametrize("value", ["yes please", "3", [1], {"a": 1}, None])
def test_no_text_or_container_passes_for_a_number(tmp_path: Path, value: object) -> None:
    assert "train.steps" in faults(tmp_path, {"train": {"steps": value}})


def test_a_list_of_numbers_takes_no_text(tmp_path: Path) -> None:
    assert "evaluate.k" in faults(tmp_path, {"evaluate": {"k": ["1", "x"]}})


def test_a_number_that_yaml_takes_for_text_is_explained(tmp_path: Path) -> None:
    assert "5e-4 is written 5.0e-4" in faults(tmp_path, "train: {learning_rate: 5e-4}")


def test_a_union_is_one_fault_named_by_its_key(tmp_path: Path) -> None:
    text = faults(tmp_path, {"sets": {"id": {"strength": "high"}}, "matrix": {"setups": []}})
    assert 'sets.id.strength: should be a valid number (found "high"), or should be a list (found "high")' in text
    assert "1 fault" in text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"sets": {"a": {"strength": "automatic"}}}, "or should be 'auto'"),
        ({"sets": {"a": {"strength": "auto", "target": [0.9, 0.9]}}}, "sets.a.target: the lower end 0.9 is not below"),
        ({"sets": {"a": {"strength": "auto", "cap": 0}}}, "sets.a.cap"),
        ({"calibrate": {"min": 0.6, "max": 0.5}}, "calibrate: min 0.6 is not below max 0.5"),
    ],
)
def test_what_a_calibration_cannot_aim_at(tmp_path: Path, content: dict, text: str) -> None:
    assert text in faults(tmp_path, content)


def test_true_is_no_number(tmp_path: Path) -> None:
    assert "train.steps" in faults(tmp_path, {"train": {"steps": True}})


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


def test_matrix_names_setups_that_select_has(tmp_path: Path) -> None:
    text = faults(tmp_path, {"select": {"real": {}}, "matrix": {"setups": ["real", "reel"]}})
    assert "names reel; select has real" in text


def test_a_setup_changes_keys_of_train_and_no_others(tmp_path: Path) -> None:
    path = write(tmp_path, {"train": {"warmup": 0.2}, "select": {"a": {"train": {"negative_weight": 0}}, "b": {}}})
    shared, changed = config_load.load("train", path), config_load.load("select.a", path)
    assert changed.training(shared) == shared.model_copy(update={"negative_weight": 0.0})
    assert config_load.load("select.b", path).training(shared) == shared
    assert changed.model_dump(mode="json")["train"] == {"negative_weight": 0.0}
    same = {
        "backbone": "narrow_resnet",
        "steps": 5,
        "anchors": 4,
        "classifier_steps": 5,
        "eval_every": 5,
        "size": 32,
        "width": 8,
        "blocks": [1],
        "embedding": 8,
        "device": "cpu",
        "precision": "no",
    }
    content = {"select": {"a": {"train": {**same, "temprature": 1, "warmup": "long"}}, "b": {"train": 3}}}
    text = faults(tmp_path, content)
    for key in same:
        assert f"select.a.train.{key}: must be the same for every setup" in text
    assert "select.a.train.temprature: unknown key, did you mean temperature" in text
    assert 'select.a.train.warmup: should be a valid number (found "long")' in text
    assert "select.b.train: should be a mapping" in text and "14 fault(s)" in text
    with pytest.raises(UserError, match="select.a.train.steps: must be the same"):
        config_load.load("select.a", write(tmp_path, content))


def test_names_of_sets_are_file_names(tmp_path: Path) -> None:
    assert "../x" in faults(tmp_path, {"sets": {"../x": {"strength": 0.1}}})


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "just words"])
def test_what_is_no_mapping_is_said_so(tmp_path: Path, text: str) -> None:
    assert "params.yaml" in faults(tmp_path, text)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="partsynth init"):
        config_load.load("train", tmp_path / "none.yaml")


@pytest.mark.parametrize("section", [s for s in SECTIONS if isinstance(Params.model_fields[s].annotation, type)])
def test_values_never_change_after_loading(section: str) -> None:
    value = Params.model_fields[section].annotation
    if not issubclass(value, BaseModel):
        pytest.skip("a mapping")
    loaded = value()
    with pytest.raises(ValidationError):
        setattr(loaded, next(iter(value.model_fields)), 1)


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


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=st.one_of(st.floats(max_value=-1e-9), st.floats(min_value=1 + 1e-9), st.text(), st.booleans()))
def test_bad_strengths_are_refused(tmp_path: Path, value: object) -> None:
    assert "sets.a.strength" in faults(tmp_path, {"sets": {"a": {"strength": value}}})


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
