"""The whole of params.yaml: what sections say of each other, and values that never change."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.params import faults
from pydantic import BaseModel, ValidationError

from partsynth.config.params import Params
from partsynth.config.quality import Quality

SECTIONS = list(Params.model_fields)


def test_matrix_names_setups_that_select_has(tmp_path: Path) -> None:
    text = faults(tmp_path, {"select": {"real": {}}, "matrix": {"setups": ["real", "reel"]}})
    assert "names reel; select has real" in text


def test_rule_nobody_needs_what_it_decides_by(tmp_path: Path) -> None:
    select = {"near": {"role": "negative", "rule": "nobody"}}
    told = faults(tmp_path, {"select": select, "matrix": {"setups": ["near"]}})
    assert "select.near.rule nobody needs drift from all classes: quality.all_classes: true" in told
    Params(select=select, matrix={"setups": ["near"]}, quality={"all_classes": True})
    assert not {"all_classes", "all_classes_tolerance"} & Quality().model_dump().keys()


def test_names_of_sets_are_file_names(tmp_path: Path) -> None:
    assert "../x" in faults(tmp_path, {"sets": {"../x": {"strength": 0.1}}})


@pytest.mark.parametrize("section", [s for s in SECTIONS if isinstance(Params.model_fields[s].annotation, type)])
def test_values_never_change_after_loading(section: str) -> None:
    value = Params.model_fields[section].annotation
    if not issubclass(value, BaseModel):
        pytest.skip("a mapping")
    loaded = value()
    with pytest.raises(ValidationError):
        setattr(loaded, next(iter(value.model_fields)), 1)
