"""Trained classifiers as files, also those that were stored before there was a choice of backbones."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from partsynth.config.training import Train
from partsynth.core.backbones import narrow_resnet
from partsynth.core.backbones.base import Extractor
from partsynth.core.contrastive import encoder as encoders
from partsynth.errors import UserError
from partsynth.seams import BACKBONES
from partsynth.training import classifier

PARAMS = Train(width=8, blocks=[1, 1], embedding=16, size=32)


def model(seed: int = 0) -> encoders.Classifier:
    torch.manual_seed(seed)
    return encoders.Classifier(classifier.build_encoder(PARAMS, seed), 3, 32)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def save(folder: Path) -> encoders.Classifier:
    saved = model()
    config = {"architecture": classifier.architecture(PARAMS), "classes": ["a", "b", "c"]}
    classifier.save(saved, config, "f" * 64, folder)
    return saved


def test_load_gives_back_what_was_saved(tmp_path: Path) -> None:
    saved = save(tmp_path)
    loaded, config = classifier.load(tmp_path)
    features, logits = encoders.embed(loaded, images(5))
    assert config.pop("sha256").keys() == {"encoder.safetensors", "classifier.safetensors"} and config.pop("seal")
    assert config == {
        "architecture": {"width": 8, "blocks": [1, 1], "embedding": 16},
        "classes": ["a", "b", "c"],
        "size": 32,
        "fingerprint": "f" * 64,
    }
    assert features.shape == (5, 2 * 16) and logits.shape == (5, 3)  # mean- and max-pooled
    expected = encoders.embed(saved, torch.from_numpy(images(5)), batch_size=2)
    torch.testing.assert_close((features, logits), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits, loaded.classifier(features).detach())


def test_names_in_the_files_are_those_of_models_stored_before_the_choice_of_backbones(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    save(tmp_path)
    names = set(load_file(tmp_path / "encoder.safetensors"))
    assert {"backbone.0.weight", "backbone.6.conv1.weight", "projection.0.weight", "projection.2.bias"} <= names
    assert {name.split(".")[0] for name in names} == {"backbone", "projection"}
    assert set(load_file(tmp_path / "classifier.safetensors")) == {"weight", "bias"}


def test_a_model_of_a_backbone_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("seal")
    config["architecture"]["backbone"] = "resnet_from_elsewhere"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"no backbone 'resnet_from_elsewhere'; there are narrow_resnet"):
        classifier.load(tmp_path)
    (tmp_path / "encoder.safetensors").unlink()
    config["architecture"].pop("backbone")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"encoder\.safetensors is missing"):
        classifier.load(tmp_path)


def test_a_size_that_the_backbone_does_not_take_is_refused() -> None:
    class Fixed:
        name, keys = "fixed", ("width",)
        initialise = staticmethod(narrow_resnet.MEMBER.initialise)

        def build(self, parameters: dict[str, int]) -> Extractor:
            if parameters["width"] > 16:
                raise ValueError("a width of at most 16")
            built = narrow_resnet.MEMBER.build({**parameters, "blocks": [1]})
            return dataclasses.replace(built, input_size=48)

    BACKBONES.register("fixed", Fixed())
    try:
        fixed = PARAMS.model_copy(update={"backbone": "fixed"})
        with pytest.raises(UserError, match=r"train.size is 32; the backbone fixed takes 48 alone"):
            classifier.build_encoder(fixed, 0)
        with pytest.raises(UserError, match=r"train.backbone fixed: a width of at most 16"):
            classifier.build_encoder(fixed.model_copy(update={"width": 32}), 0)
        assert classifier.build_encoder(fixed.model_copy(update={"size": 48}), 0).feature_dim == 16
        assert classifier.architecture(fixed) == {"backbone": "fixed", "width": 8, "embedding": 16}
    finally:
        BACKBONES.unregister("fixed")


@pytest.mark.parametrize("name", ["encoder.safetensors", "classifier.safetensors", "history.csv"])
def test_a_file_that_was_changed_after_training_is_named(tmp_path: Path, name: str) -> None:
    config = {"architecture": classifier.architecture(PARAMS), "classes": ["a", "b", "c"]}
    classifier.save(model(), config, "f" * 64, tmp_path, {"history.csv": b"step\n1\n"})
    classifier.load(tmp_path)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UserError, match=rf"{name} is not as its training wrote it"):
        classifier.load(tmp_path)


def test_a_config_that_was_changed_after_training_is_named(tmp_path: Path) -> None:
    save(tmp_path)
    path = tmp_path / "config.json"
    whole = json.loads(path.read_text())
    for changes in ({"classes": ["a", "c", "b"]}, {"size": 10**40}, {"added": None}, {"seal": "0"}):
        path.write_text(json.dumps(whole | changes))
        with pytest.raises(UserError, match=r"config\.json is not as its training wrote it"):
            classifier.load(tmp_path)
    path.write_text(json.dumps({key: value for key, value in whole.items() if key not in ("seal", "sha256")}))
    classifier.load(tmp_path)  # of before there was a seal


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save(tmp_path)
    whole = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({key: whole[key] for key in whole if key != "seal"}))
    weights = {name: tensor.int() for name, tensor in load_file(tmp_path / "encoder.safetensors").items()}
    save_file(weights, tmp_path / "encoder.safetensors")
    with pytest.raises(UserError, match=r"encoder\.safetensors does not fit config\.json beside it .*int32"):
        classifier.load(tmp_path)
