"""Scores in a graph are those of the evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import exports

from partsynth.core.contrastive import encoder
from partsynth.errors import UserError
from partsynth.evaluation.scoring import scorers
from partsynth.seams import SCORES
from partsynth.serving import scores


@pytest.mark.parametrize("name", list(SCORES))
def test_every_score_of_the_package_has_its_graph(name):
    model, known, images = exports.bank()
    rng = np.random.default_rng(1)
    features, logits = encoder.embed(model, rng.integers(0, 256, images.shape, dtype=np.uint8))
    wanted = scorers(known, [name])[name](features.double().numpy(), logits.double().numpy())
    with torch.no_grad():
        found = scores.graph_of(name, known)(features, logits).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_known_image_has_distance_zero():
    model, known, images = exports.bank()
    features, _ = encoder.embed(model, images[:3])
    index, distance = scores.nearest(features, scores.to_tensor(known.bank), 2)
    assert index[:, 0].tolist() == [0, 1, 2] and float(distance[:, 0].max()) < 1e-5


def test_a_score_without_a_graph_is_refused():
    with pytest.raises(UserError, match=r"headline_score 'mine' cannot be exported; 'knn', "):
        scores.graph_of("mine", exports.bank()[1])
