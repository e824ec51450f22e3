"""What a setup may change of section train."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.params import faults, write

from partsynth.config import load as config_load
from partsynth.errors import UserError


def test_a_setup_changes_keys_of_train_and_no_others(tmp_path: Path) -> None:
    path = write(tmp_path, {"train": {"warmup": 0.2}, "select": {"a": {"train": {"negative_weight": 0}}, "b": {}}})
    shared, changed = config_load.load("train", path), config_load.load("select.a", path)
    assert changed.training(shared) == shared.model_copy(update={"negative_weight": 0.0})
    assert config_load.load("select.b", path).training(shared) == shared
    assert changed.model_dump(mode="json")["train"] == {"negative_weight": 0.0}
    same = {"device": "cpu", "precision": "no"}
    content = {"select": {"a": {"train": {**same, "temprature": 1, "warmup": "long"}}, "b": {"train": 3}}}
    text = faults(tmp_path, content)
    for key in same:
        assert f"select.a.train.{key}: must be the same for every setup" in text
    assert "select.a.train.temprature: unknown key, did you mean temperature" in text
    assert 'select.a.train.warmup: should be a valid number (found "long")' in text
    assert "select.b.train: should be a mapping" in text and "5 fault(s)" in text
    with pytest.raises(UserError, match=r"select\.a\.train\.device: must be the same"):
        config_load.load("select.a", write(tmp_path, content))


def test_a_setup_with_an_encoder_of_its_own_says_so(tmp_path: Path) -> None:
    network = {"steps": 5, "anchors": 4, "classifier_steps": 5, "eval_every": 5, "size": 32, "width": 8, "blocks": [1]}
    text = faults(tmp_path, {"select": {"a": {"train": network | {"warmup": 0.1}}}})
    assert "anchors, blocks, classifier_steps, eval_every, size, steps, width must be the same for every setup" in text
    assert "own backbone or trainable beside it" in text and "1 fault(s)" in text
    for own in ({"backbone": "narrow_resnet"}, {"trainable": 2}):
        changed = config_load.load("select.a", write(tmp_path, {"select": {"a": {"train": network | own}}}))
        assert changed.training(config_load.load("train", tmp_path / "params.yaml")).steps == 5


def test_a_bare_no_is_the_precision_of_this_name(tmp_path: Path) -> None:
    """YAML reads it as false."""
    path = write(tmp_path, {"train": {"warmup": 0.2}})
    path.write_text(path.read_text().replace("warmup: 0.2", "precision: no"))
    assert "precision: no" in path.read_text() and config_load.load("train", path).precision == "no"
    path.write_text(path.read_text().replace("precision: no", "precision: yes"))
    with pytest.raises(UserError, match=r"train\.precision"):
        config_load.load("train", path)
