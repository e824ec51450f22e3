from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.shapes import CLASSES, SIZE, TINY, images_of

from partsynth.core.contrastive import encoder as encoders
from partsynth.training.classifier import build_encoder
from partsynth.training.images import TrainingImages
from partsynth.training.linear_probe import fit_linear_probe, knn_accuracy, sample_weights
from partsynth.training.result import NonFinite


def test_weights_share_out() -> None:
    nothing = torch.zeros(0)
    images = TrainingImages(
        classes=["a", "b"],
        images=nothing,
        labels=np.array([0, 0, 0, 1, 1]),
        is_negative=np.zeros(5, bool),
        is_synthetic=np.array([False, True, True, False, False]),
        source=np.zeros(5, int),
        val_images=nothing,
        val_labels=np.zeros(0, int),
    )
    np.testing.assert_allclose(sample_weights(images, np.arange(5), 0.4), [0.6, 0.2, 0.2, 0.5, 0.5])


def test_the_probe_learns_on_a_frozen_encoder_and_its_accuracy_is_that_of_the_stored_model(project: Path) -> None:
    images = images_of(project, "real")
    model = encoders.Classifier(build_encoder(TINY, 0), len(CLASSES), SIZE)
    before = {key: value.clone() for key, value in model.encoder.state_dict().items()}
    metrics = fit_linear_probe(model, images, TINY.model_copy(update={"classifier_steps": 200}), 0)
    assert all(torch.equal(value, before[key]) for key, value in model.encoder.state_dict().items())
    assert metrics["train_accuracy"] > 0.9
    predicted = encoders.embed(model, images.val_images)[1].argmax(1).numpy()
    assert (predicted == images.val_labels).mean() == pytest.approx(metrics["val_accuracy"])


def test_without_validation_images_nothing_is_said_of_them(project: Path) -> None:
    images = images_of(project, "real")
    none = dataclasses.replace(images, val_images=images.val_images[:0], val_labels=images.val_labels[:0])
    encoder = build_encoder(TINY, 0)
    assert math.isnan(knn_accuracy(encoder, none))
    metrics = fit_linear_probe(encoders.Classifier(encoder, 3, SIZE), none, TINY, 0)
    assert "val_accuracy" not in metrics


def test_the_nearest_real_training_image_decides(project: Path) -> None:
    images = images_of(project)
    itself = dataclasses.replace(
        images, val_images=images.images[images.is_real], val_labels=images.labels[images.is_real]
    )
    encoder = build_encoder(TINY, 0)
    assert knn_accuracy(encoder, itself) == 1
    wrong = dataclasses.replace(itself, val_labels=(itself.val_labels + 1) % 3)
    assert knn_accuracy(encoder, wrong) == 0


def test_a_loss_that_is_no_number_is_named(project: Path) -> None:
    model = encoders.Classifier(build_encoder(TINY, 0), 3, SIZE)
    with torch.no_grad():
        next(model.encoder.parameters()).fill_(math.nan)
    with pytest.raises(NonFinite, match="classifier_learning_rate"):
        fit_linear_probe(model, images_of(project, "real"), TINY, 0)
