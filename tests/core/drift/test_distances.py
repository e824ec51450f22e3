from __future__ import annotations

import numpy as np
import pytest
from helpers.clouds import cloud, unit

from partsynth.core.drift.distances import Bank, class_distances, nearest_and_margin, own


def slow_distance(feature, name, group, bank, kind, k):
    """The definition, one loop."""
    members = [i for i in range(len(bank.names)) if bank.classes[i] == kind]
    usable = [i for i in members if bank.groups[i] != group]
    usable = usable or [i for i in members if bank.names[i] != name]
    usable = usable or members
    found = sorted(1 - float(np.dot(feature.astype(float), bank.features[i].astype(float))) for i in usable)[:k]
    return sum(found) / len(found)


@pytest.mark.parametrize("k", [1, 3, 50])
def test_distances_against_a_loop(k):
    bank = cloud(np.random.default_rng(0))
    query = cloud(np.random.default_rng(1))
    fast = class_distances(query.features, query.names, query.groups, bank, k)
    for i in range(len(query.names)):
        for c, kind in enumerate(bank.kinds):
            expected = slow_distance(query.features[i], query.names[i], query.groups[i], bank, kind, k)
            assert fast[i, c] == pytest.approx(expected, abs=1e-12)


def test_the_whole_group_of_the_source_is_left_out():
    bank = cloud(np.random.default_rng(0))
    distance = own(class_distances(bank.features, bank.names, bank.groups, bank, 1), bank.classes, bank.kinds)
    foreign = np.full(len(bank.names), "elsewhere")
    known = own(class_distances(bank.features, foreign, foreign, bank, 1), bank.classes, bank.kinds)
    assert known.max() < 1e-6 < distance.min()  # itself is not a neighbour, nor is its twin of the same part
    twin = Bank(bank.features, bank.names, bank.classes, bank.names)
    by_source = class_distances(bank.features, bank.names, bank.names, twin, 1)
    by_source = own(by_source, bank.classes, bank.kinds)
    assert (distance > by_source).all()


def test_a_second_sources_group_is_left_out_too():
    bank = cloud(np.random.default_rng(3))
    features, first = bank.features[:1], "class0/1"
    names, theirs = np.array([f"{first}/0"]), np.flatnonzero(bank.classes == "class1")
    nearest = theirs[(bank.features[theirs] @ features[0]).argmax()]
    second = bank.groups[nearest]
    further = (bank.names[[nearest]], bank.groups[[nearest]])
    found = class_distances(features, names, np.array([first]), bank, 3, further)
    kept = ~np.isin(bank.groups, [first, second])
    less = Bank(bank.features[kept], bank.names[kept], bank.classes[kept], bank.groups[kept])
    assert found == pytest.approx(class_distances(features, np.array(["x"]), np.array(["x"]), less, 3))
    none = (np.array([""]), np.array([""]))
    plain = class_distances(features, names, np.array([first]), bank, 3)
    assert np.array_equal(class_distances(features, names, np.array([first]), bank, 3, none), plain)
    assert found[0, 1] > plain[0, 1]


def test_a_group_that_spans_classes_is_left_out_of_all():
    features = unit(np.eye(4))
    bank = Bank(features, np.array(list("abcd")), np.array(["x", "x", "y", "y"]), np.array(["g", "h", "g", "i"]))
    distances = class_distances(features[:1], np.array(["a"]), np.array(["g"]), bank, 5)
    np.testing.assert_allclose(distances, [[1, 1]])  # to b and to d alone


def test_one_group_or_one_image_still_has_a_distance():
    features = unit(np.array([[1, 0.0], [1, 0.1], [0, 1]]))
    bank = Bank(features, np.array(["a", "b", "c"]), np.array(["x", "x", "y"]), np.array(["g", "g", "h"]))
    distances = class_distances(features, bank.names, bank.groups, bank, 3)
    assert np.isfinite(distances).all()
    assert distances[0, 0] == pytest.approx(1 - float(features[0] @ features[1]), abs=1e-6)
    assert distances[2, 1] == pytest.approx(0, abs=1e-6)


def test_nearest_and_margin():
    distances = np.array([[0.1, 0.4, 0.3], [0.5, 0.2, 0.6]])
    nearest, margin = nearest_and_margin(distances, np.array(["a", "a"]), np.array(["a", "b", "c"]))
    assert list(nearest) == ["a", "b"]
    np.testing.assert_allclose(margin, [0.2, -0.3])
    _, alone = nearest_and_margin(distances[:, :1], np.array(["a", "a"]), np.array(["a"]))
    assert np.isinf(alone).all()
