"""What OOD scores share."""

import numpy as np
import pytest

from partsynth.core.evaluation import ood

DIMS = 16


def test_neighbours_equal_a_slow_loop(world):
    distances, found = ood.neighbours(world.known(), world.queries[:7], 6)
    for row, query in enumerate(world.queries[:7]):
        every = [np.linalg.norm(query / np.linalg.norm(query) - t / np.linalg.norm(t)) for t in world.train]
        order = np.argsort(every)[:6]
        np.testing.assert_allclose(distances[row], np.array(every)[order], atol=1e-7)
        assert found[row].tolist() == world.labels[order].tolist()


def test_vote_is_the_majority_and_ties_go_to_the_nearer():
    labels = np.array([[0, 1, 1], [2, 1, 0], [1, 0, 0], [3, 3, 3]])
    assert ood.vote(labels, 4).tolist() == [1, 2, 0, 3]
    assert ood.vote(np.array([[1, 0, 0, 1]]), 2).tolist() == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros(400, dtype=int)}, "known images show"),
        ({"features": np.full((400, DIMS), np.nan)}, "not finite"),
        ({"bias": np.zeros(3)}, "weight"),
    ],
)
def test_what_does_not_fit_is_refused(world, change, message):
    with pytest.raises(ValueError, match=message):
        world.known(**change)


def test_more_neighbours_than_images_is_refused(world):
    with pytest.raises(ValueError, match="401 neighbours of 400"):
        ood.neighbours(world.known(), world.queries, 401)


def test_a_gaussian_measures_squared_mahalanobis_distances(world):
    gaussian = world.known(shrink=False).background
    centred = world.queries[:5] - world.train.mean(axis=0)
    inverse = np.linalg.inv(np.cov(world.train.T, bias=True))
    np.testing.assert_allclose(gaussian.distances(world.queries[:5])[:, 0], [c @ inverse @ c for c in centred])
