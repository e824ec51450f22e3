import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from partsynth.core.evaluation.intervals import cluster_interval, t_interval
from partsynth.core.evaluation.metrics import (
    accepted,
    accuracy,
    aupr_in,
    aupr_out,
    auroc,
    ece,
    fpr,
    macro_f1,
    placements,
    roc,
    threshold,
)

# a coarse grid of values makes ties common
SCORES = st.lists(st.integers(-6, 6).map(lambda i: i / 4), min_size=1, max_size=40).map(np.array)
COUNTS = st.integers(1, 60)


def _labelled(inside, outside):
    return np.r_[np.zeros(len(inside)), np.ones(len(outside))], np.r_[inside, outside]


@given(SCORES, SCORES)
def test_ood_figures_agree_with_scikit_learn(inside, outside):
    truth, scores = _labelled(inside, outside)
    assert auroc(inside, outside) == pytest.approx(reference.roc_auc_score(truth, scores))
    assert aupr_out(inside, outside) == pytest.approx(reference.average_precision_score(truth, scores))
    assert aupr_in(inside, outside) == pytest.approx(reference.average_precision_score(1 - truth, -scores))


@given(SCORES, SCORES)
def test_auroc_is_the_share_of_ordered_pairs_and_turns_over(inside, outside):
    pairs = np.sign(outside[:, None] - inside[None, :]) / 2 + 0.5
    assert auroc(inside, outside) == pytest.approx(pairs.mean())
    assert auroc(inside, outside) == pytest.approx(1 - auroc(outside, inside))
    np.testing.assert_allclose(placements(inside, outside), pairs.mean(axis=1))


@given(SCORES, SCORES, st.floats(0.05, 1))
def test_threshold_keeps_the_recall_and_no_lower_one_does(inside, outside, recall):
    cut = threshold(inside, recall)
    assert (inside <= cut).mean() >= recall - 1e-9
    assert (inside < cut).mean() < recall
    assert fpr(inside, outside, recall) == pytest.approx((outside <= cut).mean())


def test_fpr_counts_a_tie_with_the_threshold_as_accepted():
    inside = np.arange(1, 21.0)  # 95 % of 20 is the 19th
    assert threshold(inside, 0.95) == 19
    assert accepted(inside, np.array([18.9, 19.0, 19.1])).tolist() == [True, True, False]


@given(SCORES, SCORES)
def test_roc_encloses_the_auroc(inside, outside):
    grid = np.linspace(0, 1, 20001)
    curve = roc(inside, outside, grid)
    assert (np.diff(curve) >= -1e-9).all() and curve[-1] == pytest.approx(1)
    assert np.trapezoid(curve, grid) == pytest.approx(auroc(inside, outside), abs=2e-4)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), min_size=1, max_size=50))
def test_classification_agrees_with_scikit_learn(pairs):
    true, predicted = map(list, zip(*pairs, strict=True))
    assert accuracy(true, predicted) == pytest.approx(reference.accuracy_score(true, predicted))
    assert macro_f1(true, predicted) == pytest.approx(reference.f1_score(true, predicted, average="macro"))


def test_ece_of_known_cases():
    assert ece(np.full(10, 0.9), np.r_[np.ones(9), 0]) == pytest.approx(0)
    assert ece(np.ones(4), np.array([1, 0, 0, 0])) == pytest.approx(0.75)
    assert ece(np.array([0.0, 1.0]), np.array([0, 1])) == pytest.approx(0)
    # two bins of the same gap but of opposite sign do not cancel
    assert ece(np.array([0.25, 0.75]), np.array([1, 0])) == pytest.approx(0.75)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=80))
def test_ece_equals_a_loop_over_the_bins(rows):
    confidence, correct = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    total = 0.0
    for b in range(15):
        low, high = b / 15, (b + 1) / 15
        # the edges are multiplied the way the function does, so that no picture changes bins by rounding
        inside = (np.ceil(confidence * 15) - 1 == b) | ((b == 0) & (confidence <= 0))
        assert ((confidence[inside] >= low - 1e-9) & (confidence[inside] <= high + 1e-9)).all()
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert ece(confidence, correct) == pytest.approx(total)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_t_interval_agrees_with_scipy(values):
    mean, low, high = t_interval(values)
    if np.std(values) > 1e-6:
        expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
        assert (low, high) == pytest.approx(expected)
    assert low <= mean <= high


def test_one_run_has_no_interval():
    assert t_interval([0.7]) == (0.7, None, None)
    assert t_interval([0.7, 0.7]) == (0.7, 0.7, 0.7)


@given(COUNTS, st.integers(2, 6), st.integers(0, 2**31))
def test_cluster_interval_is_seeded_and_within_the_values(count, clusters, seed):
    rng = np.random.default_rng(seed)
    values, names = rng.normal(size=count + clusters), rng.integers(clusters, size=count + clusters)
    names[:clusters] = np.arange(clusters)
    first = cluster_interval(values, names, seed, draws=200)
    assert first == cluster_interval(values, names, seed, draws=200)
    assert values.min() - 1e-9 <= first[0] <= first[1] <= values.max() + 1e-9
    assert first[2] == clusters


def test_cluster_interval_is_wider_where_clusters_differ():
    names = np.repeat(np.arange(8), 40)
    independent = np.random.default_rng(0).normal(size=320)
    clustered = independent + 3 * np.random.default_rng(1).normal(size=8)[names]
    low, high, _ = cluster_interval(independent, names, 0)
    wide_low, wide_high, _ = cluster_interval(clustered, names, 0)
    assert wide_high - wide_low > 5 * (high - low)
    assert cluster_interval(independent, np.zeros(320), 0) == (None, None, 1)


@pytest.mark.parametrize("bad", [np.array([]), np.array([np.nan, 1.0]), np.zeros((2, 2))])
def test_faulty_scores_are_refused(bad):
    with pytest.raises(ValueError, match="out-of-distribution scores"):
        auroc(np.array([0.0, 1.0]), bad)
