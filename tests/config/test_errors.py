"""Every fault of params.yaml is named at once, in plain words and with what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.params import faults


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
    assert "numbers go without quotes" in faults(tmp_path, "train: {learning_rate: '5e-4'}")


def test_a_union_is_one_fault_named_by_its_key(tmp_path: Path) -> None:
    text = faults(tmp_path, {"sets": {"id": {"strength": "high"}}, "matrix": {"setups": []}})
    assert 'sets.id.strength: should be a valid number (found "high"), or should be a list (found "high")' in text
    assert "1 fault" in text


def test_true_is_no_number(tmp_path: Path) -> None:
    assert "train.steps" in faults(tmp_path, {"train": {"steps": True}})


def test_a_key_is_meant_among_those_of_its_own_place(tmp_path: Path) -> None:
    text = faults(
        tmp_path,
        {
            "sets": {"id": {"strenght": 0.2, "strength": 0.2}},
            "select": {"a": {"train": {"temprature": 1}}},
            "benchmark": {"setups": {"real": {"addz": "x", "adds": "y"}}},
        },
    )
    for part in (
        "sets.id.strenght: unknown key, did you mean strength. Allowed: method, ",
        "select.a.train.temprature: unknown key, did you mean temperature. Allowed: backbone, ",
        "benchmark.setups.real.addz: unknown key, did you mean adds. Allowed: adds, ",
    ):
        assert part in text


def test_a_key_that_is_missing_is_said_so(tmp_path: Path) -> None:
    assert "benchmark.setups.real.adds: is required" in faults(tmp_path, {"benchmark": {"setups": {"real": {}}}})
