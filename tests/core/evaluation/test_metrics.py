import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from partsynth.core.evaluation.metrics import (
    accepted,
    accuracy,
    aupr_in,
    aupr_out,
    auroc,
    auroc_difference_variance,
    ece,
    fpr,
    macro_f1,
    placements,
    roc,
    threshold,
)

# a coarse grid of values makes ties common
SCORES = st.lists(st.integers(-6, 6).map(lambda i: i / 4), min_size=1, max_size=40).map(np.array)


def _labelled(inside, outside):
    return np.r_[np.zeros(len(inside)), np.ones(len(outside))], np.r_[inside, outside]


def precision_steps(positive, negative):
    """Average precision spelled out: sum over thresholds of (recall step) x precision; equal scores are one step."""
    found = [((positive >= cut).sum(), (negative >= cut).sum()) for cut in np.unique(np.r_[positive, negative])[::-1]]
    hits, false = np.array(found).T
    return (np.diff(hits, prepend=0) / len(positive) * hits / (hits + false)).sum()


@given(SCORES, SCORES)
def test_ood_figures_agree_with_scikit_learn(inside, outside):
    truth, scores = _labelled(inside, outside)
    assert auroc(inside, outside) == pytest.approx(reference.roc_auc_score(truth, scores))
    assert aupr_out(inside, outside) == pytest.approx(reference.average_precision_score(truth, scores))
    assert aupr_in(inside, outside) == pytest.approx(reference.average_precision_score(1 - truth, -scores))


@given(SCORES, SCORES)
def test_average_precision_counts_equal_scores_as_one_step(inside, outside):
    assert aupr_out(inside, outside) == pytest.approx(precision_steps(outside, inside), rel=1e-12)
    assert aupr_in(inside, outside) == pytest.approx(precision_steps(-inside, -outside), rel=1e-12)


@given(SCORES, SCORES)
def test_roc_keeps_all_thresholds(inside, outside):
    """Spelled out: the share of ID images kept at each threshold, over the share of OOD images accepted there."""
    grid = np.linspace(0, 1, 101)
    cuts = np.unique(np.r_[inside, outside])
    false = np.r_[0.0, [(outside <= cut).mean() for cut in cuts]]
    true = np.r_[0.0, [(inside <= cut).mean() for cut in cuts]]
    expected = np.interp(grid, false - 1e-12 * np.arange(len(false))[::-1], true)
    np.testing.assert_array_equal(roc(inside, outside, grid), expected)


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


def test_the_variance_of_a_difference_of_two_aurocs_is_that_of_many_draws():
    rng, differences, told = np.random.default_rng(0), [], []
    for _ in range(400):
        common = rng.normal(size=60) + np.repeat([0.0, 1.0], [40, 20])
        one, other = common + 0.5 * rng.normal(size=60), common + rng.normal(size=60)
        pair = (one[:40], one[40:]), (other[:40], other[40:])
        differences.append(auroc(*pair[0]) - auroc(*pair[1]))
        told.append(auroc_difference_variance(*pair))
    assert np.mean(told) == pytest.approx(np.var(differences), rel=0.15)


def test_one_score_compared_with_itself_has_no_variance_and_one_image_tells_none():
    pair = np.arange(5.0), np.arange(2, 6.0)
    assert auroc_difference_variance(pair, pair) == 0
    assert np.isnan(auroc_difference_variance((pair[0], pair[1][:1]), (pair[0], pair[1][:1])))


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
    by_class = [
        2 * sum(t == p == name for t, p in pairs) / (true.count(name) + predicted.count(name))
        for name in sorted({*true, *predicted})
    ]
    assert macro_f1(true, predicted) == pytest.approx(np.mean(by_class), rel=1e-12)


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


@pytest.mark.parametrize("bad", [np.array([]), np.array([np.nan, 1.0]), np.zeros((2, 2))])
def test_faulty_scores_are_refused(bad):
    with pytest.raises(ValueError, match="out-of-distribution scores"):
        auroc(np.array([0.0, 1.0]), bad)
