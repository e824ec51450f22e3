import numpy as np
import pytest
import torch
from pytorch_ood.detector import KNN, RMD, EnergyBased, Mahalanobis, MaxSoftmax, ViM
from scipy.stats import spearmanr

from partsynth.core.evaluation import ood
from partsynth.core.evaluation.metrics import auroc

CLASSES, DIMS = 4, 16


@pytest.fixture(scope="module")
def world():
    """Gaussian classes that fill 8 of 16 dimensions, with pictures from a fifth place off their subspace as OOD."""
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(8, DIMS))
    centres = rng.normal(size=(CLASSES, 8)) * 3

    def draw(n, labels):
        return (centres[labels] + rng.normal(size=(n, 8))) @ basis + 0.3 * rng.normal(size=(n, DIMS))

    labels = np.arange(400) % CLASSES
    train = draw(400, labels)
    weight, bias = rng.normal(size=(CLASSES, DIMS)) / 4, rng.normal(size=CLASSES)
    inside = draw(100, np.arange(100) % CLASSES)
    outside = inside[:60] + 5 * rng.normal(size=(60, DIMS))
    queries = np.concatenate([inside, outside])
    detectors = ood.fit(train, labels, weight, bias, shrink=False)
    return train, labels, weight, bias, queries, ood.scores(detectors, queries, queries @ weight.T + bias, k=5)


def _torch(*arrays):
    return [torch.tensor(a) for a in arrays]


@pytest.fixture
def float64():
    """Theirs makes its covariances in the default type; single precision would blur the comparison."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def test_scores_agree_with_pytorch_ood(world, float64):
    train, labels, weight, bias, queries, scores = world
    z, y, w, b, q = _torch(train, labels, weight, bias, queries)
    logits = q @ w.T + b

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
    own = torch.stack([fitted._class_score(q, k) for k in range(CLASSES)]).min(dim=0).values
    return len(z) * (own - fitted._background_score(q))


def test_every_score_is_higher_out_of_distribution(world):
    scores = world[-1]
    assert tuple(scores) == ood.SCORES
    for name in ("knn", "mahalanobis", "relative_mahalanobis", "vim"):
        assert auroc(scores[name][:100], scores[name][100:]) > 0.85, name
    assert auroc(scores["prototype_cosine"][:100], scores["prototype_cosine"][100:]) > 0.6


def test_shrinkage_is_mild_with_many_pictures_and_saves_few(world):
    train, labels, weight, bias, queries, scores = world
    logits = queries @ weight.T + bias
    shrunk = ood.scores(ood.fit(train, labels, weight, bias), queries, logits, 5)
    assert spearmanr(shrunk["mahalanobis"], scores["mahalanobis"]).statistic > 0.95
    few = ood.scores(ood.fit(train[:8], labels[:8], weight, bias), queries, logits, 5)  # 8 pictures, 16 dimensions
    assert all(np.isfinite(v).all() for v in few.values())
    assert auroc(few["mahalanobis"][:100], few["mahalanobis"][100:]) > 0.6


def test_neighbours_equal_a_slow_loop(world):
    train, labels, weight, bias, queries, _ = world
    detectors = ood.fit(train, labels, weight, bias)
    distances, found = ood.neighbours(detectors, queries[:7], 6)
    for row, query in enumerate(queries[:7]):
        every = [np.linalg.norm(query / np.linalg.norm(query) - t / np.linalg.norm(t)) for t in train]
        order = np.argsort(every)[:6]
        np.testing.assert_allclose(distances[row], np.array(every)[order], atol=1e-7)
        assert found[row].tolist() == labels[order].tolist()


def test_vote_is_the_majority_and_ties_go_to_the_nearer():
    labels = np.array([[0, 1, 1], [2, 1, 0], [1, 0, 0], [3, 3, 3]])
    assert ood.vote(labels, 4).tolist() == [1, 2, 0, 3]
    assert ood.vote(np.array([[1, 0, 0, 1]]), 2).tolist() == [1]


def test_scale_of_a_feature_does_not_move_the_headline(world):
    train, labels, weight, bias, queries, scores = world
    again = ood.scores(ood.fit(train, labels, weight, bias), 7 * queries, queries @ weight.T + bias, 5)
    np.testing.assert_allclose(again["knn"], scores["knn"], atol=1e-7)
    np.testing.assert_allclose(again["prototype_cosine"], scores["prototype_cosine"], atol=1e-7)


def test_dead_features_stay_finite(world):
    train, labels, weight, bias, _, _ = world
    zero = np.zeros((3, DIMS))
    found = ood.scores(ood.fit(train, labels, weight, bias), zero, np.full((3, CLASSES), 900.0), 1)
    assert all(np.isfinite(v).all() for v in found.values())
    assert all(
        np.isfinite(v).all()
        for v in ood.scores(ood.fit(np.zeros((8, DIMS)), labels[:8], weight, bias), zero, zero[:, :CLASSES], 1).values()
    )


def test_confidence_near_one_keeps_its_order():
    logits = np.array([[40.0, 0, 0, 0], [45.0, 0, 0, 0]])
    weight, bias = np.eye(4), np.zeros(4)
    found = ood.scores(ood.fit(np.eye(4), np.arange(4), weight, bias), np.ones((2, 4)), logits, 1)["max_softmax"]
    assert 0 < found[1] < found[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros(400, dtype=int)}, "fitted pictures show"),
        ({"features": np.full((400, DIMS), np.nan)}, "not finite"),
        ({"bias": np.zeros(3)}, "weight"),
    ],
)
def test_what_does_not_fit_is_refused(world, change, message):
    train, labels, weight, bias, _, _ = world
    with pytest.raises(ValueError, match=message):
        ood.fit(**{"features": train, "labels": labels, "weight": weight, "bias": bias} | change)


def test_more_neighbours_than_pictures_is_refused(world):
    train, labels, weight, bias, queries, _ = world
    with pytest.raises(ValueError, match="401 neighbours of 400"):
        ood.neighbours(ood.fit(train, labels, weight, bias), queries, 401)
