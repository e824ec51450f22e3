"""Names of a seam's members, as parameters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.params import faults, write

from partsynth.config.load import load
from partsynth.config.training import Train
from partsynth.config.words import type_text
from partsynth.seams import BACKBONES, Registry


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The backbones and one from outside."""
    BACKBONES.register("wide_net", object())
    yield BACKBONES
    BACKBONES.unregister("wide_net")


def test_a_name_that_is_no_members_is_told_with_those_there_are(tmp_path: Path) -> None:
    text = faults(tmp_path, {"evaluate": {"headline_score": "enrgy"}, "select": {"a": {"rule": "best"}}})
    assert "evaluate.headline_score: should be 'knn', 'knn_by_class', 'max_softmax', 'energy'" in text
    assert "(found 'enrgy', did you mean energy)" in text
    assert "select.a.rule: should be 'all', 'accepted', 'band', 'nobody' or 'random' (found 'best')" in text


def test_a_member_from_outside_is_allowed_once_it_is_registered(tmp_path: Path, registry: Registry) -> None:
    path = write(tmp_path, {"train": {"backbone": "wide_net"}})
    assert load("train", path).backbone == "wide_net"
    assert "wide_net" in type_text(Train.model_fields["backbone"].annotation, Train.model_fields["backbone"].metadata)
    registry.unregister("wide_net")
    try:
        text = faults(tmp_path, {"train": {"backbone": "wide_net"}})
        assert "train.backbone: should be 'narrow_resnet', 'reference'" in text and "(found 'wide_net'" in text
    finally:
        registry.register("wide_net", object())


@pytest.mark.parametrize("value", [1, None, ["knn"]])
def test_a_members_name_is_text(tmp_path: Path, value: object) -> None:
    assert "evaluate.headline_score" in faults(tmp_path, {"evaluate": {"headline_score": value}})


def test_trainings_from_before_there_were_backbones_keep_their_identity(registry: Registry) -> None:
    assert "backbone" not in Train().model_dump(mode="json")
    assert Train(backbone="wide_net").model_dump(mode="json")["backbone"] == "wide_net"
