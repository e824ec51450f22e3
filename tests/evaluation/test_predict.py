"""What models make of images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from partsynth.config.evaluation import Evaluate
from partsynth.core.evaluation.ood import unconfidence
from partsynth.errors import UserError
from partsynth.evaluation.predict import MAP_IMAGES, predict
from partsynth.evaluation.runs import ModelRun, read_parts
from partsynth.evaluation.scoring import told

FOLDERS = (Path("data/real"), Path("data/ood"), Path("data/augmented"))


@pytest.fixture
def root(evaluated_project, monkeypatch):
    monkeypatch.chdir(evaluated_project[0].root)
    return evaluated_project[0].root


def test_each_image_of_each_part_has_a_prediction_of_each_model_but_training_images(root):
    parts = read_parts(*FOLDERS)
    run = ModelRun("real", 0, Path("models/supcon/real/0"))
    found = predict(Evaluate(k=[1, 3]), [run], parts, root)
    wanted = [(part, row.path) for part, rows in parts.items() if part != "train" for row in rows]
    assert [(row.part, row.path) for row in found.rows] == wanted
    assert all(list(row.scores) == told(Evaluate()) for row in found.rows)
    assert all(row.confidence == 1 - row.scores["max_softmax"] for row in found.rows)
    assert found.choices["real"]["0"].k in (1, 3)
    (about,) = found.runs
    assert set(about.sha256) == {"encoder.safetensors", "classifier.safetensors"} and "classes" not in about.config


def test_the_map_has_unit_features_of_test_and_ood_images(root):
    parts = read_parts(*FOLDERS)
    found = predict(Evaluate(k=[1]), [ModelRun("real", 1, Path("models/supcon/real/1"))], parts, root).maps["real"]
    np.testing.assert_allclose(np.linalg.norm(found.features, axis=1), 1)
    assert {point.part for point in found.rows} == {"test", "near_test", "far_test"}
    assert len(found.rows) == len(found.features) <= 3 * MAP_IMAGES and {point.seed for point in found.rows} == {1}


def test_images_of_another_size_are_brought_to_the_models(root, tmp_path):
    """G1: as training does it."""
    shutil.copytree("models/supcon/real/0", tmp_path / "other")
    path = tmp_path / "other/config.json"
    config = json.loads(path.read_text())
    parts = read_parts(*FOLDERS)
    path.write_text(json.dumps(config | {"size": config["size"] + 8, "test_views": "flips"}))
    found = predict(Evaluate(k=[1]), [ModelRun("real", 0, tmp_path / "other")], parts, root)
    before = predict(Evaluate(k=[1]), [ModelRun("real", 0, Path("models/supcon/real/0"))], parts, root)
    assert [row.path for row in found.rows] == [row.path for row in before.rows]
    assert [row.confidence for row in found.rows] != [row.confidence for row in before.rows]
    assert found.choices["real"]["0"].test_views == "flips"
    assert "test_views" not in before.choices["real"]["0"].dump()


def test_a_diverged_model_is_named(root, tmp_path):
    shutil.copytree("models/supcon/real/0", tmp_path / "diverged")
    path = tmp_path / "diverged/classifier.safetensors"
    mark = {"fingerprint": json.loads((tmp_path / "diverged/config.json").read_text())["fingerprint"]}
    weights = load_file(path)
    save_file({name: np.full_like(value, 3e38) for name, value in weights.items()}, path, mark)
    with pytest.raises(UserError, match=r"diverged gives non-finite outputs on train: .*train\.learning_rate"):
        predict(Evaluate(), [ModelRun("real", 0, tmp_path / "diverged")], read_parts(*FOLDERS), root)


@pytest.mark.parametrize("name", ["encoder.safetensors", "classifier.safetensors"])
def test_weights_that_are_no_numbers_or_of_another_training_are_named(root, tmp_path, name):
    """Though they fit the model, and though nothing that is evaluated may depend on them."""
    run = ModelRun("real", 0, Path(shutil.copytree("models/supcon/real/0", tmp_path / "model")))
    mark = {"fingerprint": json.loads((run.folder / "config.json").read_text())["fingerprint"]}
    weights = load_file(run.folder / name)
    last = sorted(weights)[-1]
    save_file(weights | {last: np.full_like(weights[last], np.nan)}, run.folder / name, mark)
    with pytest.raises(UserError, match=rf"model/{name} holds numbers that are none \(NaN\) in {last}: .*dvc checkout"):
        predict(Evaluate(), [run], read_parts(*FOLDERS), root)
    save_file(weights, run.folder / name)
    with pytest.raises(UserError, match=rf"model/{name} is of another training than config\.json"):
        predict(Evaluate(), [run], read_parts(*FOLDERS), root)


def test_confidence_of_sure_models_does_not_cancel():
    assert 0 < unconfidence(np.array([[60.0, 0.0]]))[0] < 1e-20
