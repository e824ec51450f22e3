"""Each score against its reference implementation and what it promises."""

import numpy as np
import pytest
import torch
from pytorch_ood.detector import KNN, RMD, EnergyBased, Mahalanobis, MaxSoftmax, ViM
from scipy.stats import spearmanr

from partsynth.core.evaluation.metrics import auroc
from partsynth.seams import SCORES

NAMES = ("knn", "max_softmax", "energy", "mahalanobis", "relative_mahalanobis", "vim", "prototype_cosine")


@pytest.fixture
def float64():
    """Theirs makes its covariances in the default type; single precision would blur the comparison."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def test_members_are_registered_under_their_names_in_the_order_of_the_predictions():
    assert tuple(SCORES) == NAMES
    assert [SCORES[name].name for name in SCORES] == list(NAMES)
    assert len({SCORES[name].title for name in SCORES}) == len(NAMES)


def test_scores_agree_with_pytorch_ood(world, float64):
    z, y, w, b, q = map(torch.tensor, (world.train, world.labels, world.weight, world.bias, world.queries))
    logits, scores = q @ w.T + b, world.scores(shrink=False)

    def close(name, theirs, tolerance=1e-3):
        np.testing.assert_allclose(scores[name], np.asarray(theirs, dtype=np.float64), rtol=tolerance, atol=tolerance)

    close("knn", KNN(None, k=5).fit_features(z, y).predict_features(q))
    close("energy", EnergyBased(lambda x: x)(logits))
    close("max_softmax", 1 + MaxSoftmax(lambda x: x)(logits))
    close("vim", ViM(None, d=8, w=w, b=b).fit_features(z, y).predict_features(q))
    # theirs sums the covariance instead of averaging it, and keeps the Gaussian's half
    close("mahalanobis", 2 * len(z) * Mahalanobis(None).fit_features(z, y).predict_features(q))
    close("relative_mahalanobis", _rmd(z, y, q))


def _rmd(z, y, q):
    """Equation 3 of arXiv 2106.09022 from pytorch-ood's two fitted Gaussians."""
    fitted = RMD(None).fit_features(z, y)
    own = torch.stack([fitted._class_score(q, k) for k in range(len(y.unique()))]).min(dim=0).values
    return len(z) * (own - fitted._background_score(q))


def test_prototype_cosine_equals_a_slow_loop(world):
    unit = world.train / np.linalg.norm(world.train, axis=1, keepdims=True)
    prototypes = [unit[world.labels == label].mean(axis=0) for label in range(4)]
    expected = [1 - max(q @ p / np.linalg.norm(q) / np.linalg.norm(p) for p in prototypes) for q in world.queries[:9]]
    np.testing.assert_allclose(world.scores()["prototype_cosine"][:9], expected, atol=1e-12)


def test_every_score_is_higher_out_of_distribution(world):
    scores = world.scores(shrink=False)
    assert all(values.dtype == np.float64 and values.shape == (160,) for values in scores.values())
    for name in ("knn", "mahalanobis", "relative_mahalanobis", "vim"):
        assert auroc(scores[name][:100], scores[name][100:]) > 0.85, name
    assert auroc(scores["prototype_cosine"][:100], scores["prototype_cosine"][100:]) > 0.6


def test_shrinkage_is_mild_with_many_images_and_saves_few(world):
    shrunk = world.scores()
    assert spearmanr(shrunk["mahalanobis"], world.scores(shrink=False)["mahalanobis"]).statistic > 0.95
    few = world.scores(features=world.train[:8], labels=world.labels[:8])  # 8 images, 16 dimensions
    assert all(np.isfinite(v).all() for v in few.values())
    assert auroc(few["mahalanobis"][:100], few["mahalanobis"][100:]) > 0.6


def test_scale_of_a_feature_does_not_move_the_headline(world):
    again, scores = world.scores(7 * world.queries), world.scores()
    np.testing.assert_allclose(again["knn"], scores["knn"], atol=1e-7)
    np.testing.assert_allclose(again["prototype_cosine"], scores["prototype_cosine"], atol=1e-7)


def test_dead_features_stay_finite(world):
    zero = np.zeros((3, 16))
    found = world.scores(zero, np.full((3, 4), 900.0), k=1)
    assert all(np.isfinite(v).all() for v in found.values())
    dead = world.scores(zero, zero[:, :4], features=np.zeros((8, 16)), labels=world.labels[:8], k=1)
    assert all(np.isfinite(v).all() for v in dead.values())


def test_confidence_near_one_keeps_its_order(world):
    logits = np.array([[40.0, 0, 0, 0], [45.0, 0, 0, 0]])
    found = world.scores(np.ones((2, 16)), logits)["max_softmax"]
    assert 0 < found[1] < found[0]
