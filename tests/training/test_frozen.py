"""A backbone that nobody trains: its probe, its kept features, the views that predictions are averaged over."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.shapes import CLASSES, SIZE, TINY, images_of

from partsynth.config.training import Train
from partsynth.core.contrastive import encoder as encoders
from partsynth.core.images import views
from partsynth.errors import UserError
from partsynth.training import classifier
from partsynth.training.fit import fit
from partsynth.training.frozen import FrozenFeatures

FROZEN = TINY.model_copy(update={"trainable": "none", "classifier_steps": 100})


def tensors(model: encoders.Classifier) -> list[torch.Tensor]:
    return [*encoders.tensors(model).values()]


def same(a: encoders.Classifier, b: encoders.Classifier) -> bool:
    return all(map(torch.equal, tensors(a), tensors(b)))


def test_nothing_but_the_probe_is_trained(project: Path) -> None:
    images = images_of(project, "real_id_negatives")
    fitted = fit(images, FROZEN, 0, root=project)
    start = classifier.build_encoder(FROZEN, 0)  # other weights than fit's: those of seed 0 itself
    assert not any(p.requires_grad for p in start.backbone.parameters())
    assert [m.step for m in fitted.history] == [0] and fitted.collapsed is None
    assert fitted.metrics["val_accuracy"] > 1 / len(CLASSES)
    assert "loss" not in fitted.metrics
    again = fit(images, FROZEN, 0)
    assert same(fitted.model, again.model)


def test_kept_features_give_the_same_bytes_and_no_backbone_runs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = images_of(project, "real")
    params = FROZEN.model_copy(update={"test_views": "rotations"})
    first = fit(images, params, 0, root=project)
    (file,) = (project / ".work/features").glob("backbone-*")
    before = file.read_bytes()

    def fail(self: object, images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the backbone ran")

    with monkeypatch.context() as patched:
        patched.setattr(encoders.Encoder, "_features", fail)
        second = fit(images, params, 0, root=project)
    assert same(first.model, second.model) and file.read_bytes() == before
    file.write_bytes(b"torn")
    assert same(first.model, fit(images, params, 0, root=project).model)


def test_features_are_kept_for_these_weights_alone(project: Path) -> None:
    one, other = (FrozenFeatures(classifier.build_encoder(FROZEN, seed), project) for seed in (0, 1))
    assert one.path != other.path
    same = FrozenFeatures(classifier.build_encoder(FROZEN, 0), project)
    assert same.path == one.path and same.rows == {}
    images = torch.rand(3, 3, 8, 8)
    given = one(images[[0, 1, 0]], lambda x: x.mean((2, 3)))
    torch.testing.assert_close(given, images[[0, 1, 0]].mean((2, 3)))
    assert len(one.rows) == 2
    one.keep()
    assert set(FrozenFeatures(classifier.build_encoder(FROZEN, 0), project).rows) == set(one.rows)


@pytest.mark.parametrize(("kind", "count"), [("none", 1), ("flips", 4), ("rotations", 8)])
def test_outputs_are_means_over_the_views(project: Path, kind: views.Fixed, count: int) -> None:
    torch.manual_seed(0)
    model = encoders.Classifier(classifier.build_encoder(TINY, 0), 3, SIZE, kind).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
    features, logits = encoders.embed(model, pixels, batch_size=2)
    with torch.no_grad():
        seen = [model.encoder.features(view) for view in views.fixed(encoders.to_float(torch.from_numpy(pixels)), kind)]
        each = torch.stack([model.classifier(part) for part in seen])
    assert len(seen) == count
    torch.testing.assert_close(features, torch.stack(seen).mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits, each.mean(0), rtol=1e-4, atol=1e-5)


def test_auto_takes_the_views_of_the_best_validation_accuracy_and_they_are_stored(
    project: Path, tmp_path: Path
) -> None:
    images = images_of(project, "real")
    fitted = fit(images, FROZEN.model_copy(update={"test_views": "auto"}), 0)
    tried = {kind: fitted.metrics[f"val_accuracy_{kind}"] for kind in views.FIXED}
    best = max(views.FIXED, key=tried.__getitem__)  # the first of equals
    assert fitted.model.test_views == best and fitted.metrics["val_accuracy"] == tried[best]
    alone = fit(images, FROZEN.model_copy(update={"test_views": best}), 0)
    assert same(fitted.model, alone.model)

    fitted.model.test_views = "flips"
    config = {"architecture": classifier.architecture(FROZEN), "classes": list(CLASSES)}
    classifier.save(fitted.model, config, "f" * 64, tmp_path / "model")
    loaded, stored = classifier.load(tmp_path / "model")
    assert loaded.test_views == stored["test_views"] == "flips"


def test_without_validation_images_auto_is_the_image_alone(project: Path) -> None:
    import dataclasses

    images = images_of(project, "real")
    none = dataclasses.replace(images, val_images=images.val_images[:0], val_labels=images.val_labels[:0])
    assert fit(none, FROZEN.model_copy(update={"test_views": "auto"}), 0).model.test_views == "none"


def test_the_last_layers_are_trained_and_the_others_keep_their_bytes(project: Path) -> None:
    params = TINY.model_copy(update={"trainable": 1, "layer_decay": 0.5, "steps": 3, "eval_every": 3})
    images = images_of(project, "real")
    started = fit(images, params.model_copy(update={"trainable": "none"}), 0).model.encoder.state_dict()
    trained = fit(images, params, 0).model.encoder.state_dict()
    changed = {key for key, value in trained.items() if not torch.equal(value, started[key])}
    last = max(int(key.split(".")[1]) for key in trained if key.startswith("backbone."))
    assert changed and all(key.startswith((f"backbone.{last}.", "projection.")) for key in changed)
    assert any(key.startswith(f"backbone.{last}.") for key in changed)


def test_layers_nearer_to_the_input_learn_slower(project: Path) -> None:
    params = TINY.model_copy(update={"steps": 1, "eval_every": 1, "weight_decay": 0.0, "warmup": 0.0})
    images = images_of(project, "real")
    start = fit(images, params.model_copy(update={"trainable": "none"}), 0).model.encoder.state_dict()

    def moved(decay: float) -> torch.Tensor:
        trained = fit(images, params.model_copy(update={"layer_decay": decay}), 0).model.encoder.state_dict()
        return (trained["backbone.0.weight"] - start["backbone.0.weight"]).norm()

    assert 0 < moved(0.5) < 0.5 * moved(1.0)


def test_a_training_of_a_backbone_with_stored_weights_names_them(project: Path) -> None:
    folder = Path(__file__).parents[2] / "models/base/reference_encoder"
    params = Train(backbone="reference", model=str(folder), trainable="none")
    weights = classifier.stored_weights(params)
    assert weights is not None and weights.facts["source"] == folder.as_posix() and len(weights.sha256) == 64
    assert classifier.stored_weights(TINY) is None
    with pytest.raises(UserError, match=r"train\.backbone reference: model is elsewhere"):
        classifier.stored_weights(params.model_copy(update={"model": "elsewhere"}))
    with pytest.raises(UserError, match=r"train\.backbone reference: .*has \d+ layers"):
        classifier.build_encoder(params.model_copy(update={"trainable": 50}), 0)


def test_architecture_of_a_trained_model_is_json(project: Path) -> None:
    folder = Path(__file__).parents[2] / "models/base/reference_encoder"
    params = Train(backbone="reference", model=str(folder))
    encoder = classifier.build_encoder(params, 0)
    found = classifier.architecture(params, encoder)
    assert json.loads(json.dumps(found)) == found and found["resolved"]["widths"]
