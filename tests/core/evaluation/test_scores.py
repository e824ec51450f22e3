"""Each score against its reference implementation and what it promises."""

import numpy as np
import pytest
import torch
from pytorch_ood.detector import KNN, RMD, EnergyBased, Mahalanobis, MaxSoftmax, ViM
from scipy.stats import spearmanr

from partsynth.core.evaluation import ood
from partsynth.core.evaluation.metrics import auroc
from partsynth.seams import SCORES

NAMES = (
    "knn",
    "knn_by_class",
    "max_softmax",
    "energy",
    "mahalanobis",
    "relative_mahalanobis",
    "vim",
    "prototype_cosine",
)


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


def wedges(widths, seed=0, count=30):
    """Unit features (2 count, 4) of two classes, each spread by its width in a plane of its own, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(2 * count) % 2
    angle = np.asarray(widths)[labels] * rng.uniform(-1, 1, 2 * count)
    features = np.zeros((2 * count, 4))
    features[np.arange(2 * count), 2 * labels] = np.cos(angle)
    features[np.arange(2 * count), 2 * labels + 1] = np.sin(angle)
    return features, labels


def by_class(widths, **changes):
    """The score of other images of both classes, (60,), and their classes."""
    features, labels = wedges(widths)
    about = {"held_out": wedges(widths, 1), **changes}
    fitted = ood.known(features, labels, np.eye(4)[[0, 2]], np.zeros(2), k=3, **about)
    queries, own = wedges(widths, 2)
    return SCORES["knn_by_class"].fit(fitted)(queries, np.eye(2)[own]), own, fitted


def test_knn_by_class_does_not_depend_on_the_width_of_a_class():
    narrow, _, _ = by_class([0.02, 0.02])
    mixed, own, fitted = by_class([0.02, 0.1])
    plain = SCORES["knn"].fit(fitted)(wedges([0.02, 0.1], 2)[0], np.eye(2)[own])
    np.testing.assert_allclose(mixed, narrow, rtol=0.01)  # an arc is not quite its chord
    assert np.median(plain[own == 1]) > 3 * np.median(plain[own == 0])  # one threshold would not fit both


def test_knn_by_class_is_one_at_the_median_of_each_class_or_family():
    features, labels = wedges([0.02, 0.1], 1)
    _, _, fitted = by_class([0.02, 0.1])
    own = SCORES["knn_by_class"].fit(fitted)(features, np.eye(2)[labels])
    assert [round(float(np.median(own[labels == c])), 9) for c in (0, 1)] == [1, 1]
    _, _, pooled = by_class([0.02, 0.1], families=[0, 0])
    together = SCORES["knn_by_class"].fit(pooled)(features, np.eye(2)[labels])
    assert round(float(np.median(together)), 9) == 1 and pooled.typical[0] == pooled.typical[1]


def test_knn_by_class_without_validation_images_of_a_class():
    features, labels = wedges([0.02, 0.1], 1)
    first = labels == 0
    _, _, one = by_class([0.02, 0.1], held_out=(features[first], labels[first]))
    assert one.typical[1] == one.typical[0]  # the median of all there are
    score, own, none = by_class([0.02, 0.1], held_out=None)
    np.testing.assert_array_equal(score, SCORES["knn"].fit(none)(wedges([0.02, 0.1], 2)[0], np.eye(2)[own]))
    with pytest.raises(ValueError, match="validation features"):
        by_class([0.02, 0.1], held_out=(features[:, :3], labels))
    with pytest.raises(ValueError, match="2 classes, families"):
        by_class([0.02, 0.1], families=[0])
