import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from partsynth.core.evaluation.intervals import Side, crossed_interval, holm, t_interval


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_t_interval_agrees_with_scipy(values):
    mean, low, high, _ = t_interval(values)
    if np.std(values) > 1e-6:
        expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
        assert (low, high) == pytest.approx(expected)
    assert low <= mean <= high


def test_one_run_has_no_interval():
    assert t_interval([0.7]) == (0.7, None, None, None)
    assert t_interval([0.7, 0.7])[:3] == (0.7, 0.7, 0.7)


def layout(rng, runs, clusters, cells, run, cluster, both, noise, share=1.0):
    """Values of images of some clusters in each run, of uneven number: (values of the runs, the side)."""
    levels, parts = rng.normal(0, run, runs), rng.normal(0, cluster, clusters)
    rows = []
    for r in range(runs):
        for c in rng.permutation(clusters)[: max(2, int(share * clusters))]:
            count = rng.integers(1, 2 * cells)
            value = levels[r] + parts[c] + rng.normal(0, both)
            rows += [(r, c, value + rng.normal(0, noise)) for _ in range(count)]
    at, of, values = (np.array(column) for column in zip(*rows, strict=True))
    weights = 1 / np.bincount(at)[at]
    means = [values[at == r].mean() for r in range(runs)]
    return means, Side(at, of.astype(str), values, weights)


@pytest.mark.parametrize(
    ("runs", "clusters", "spread"),
    [
        (5, 8, (0.02, 0.2, 0.2, 0.3)),  # few parts that differ: runs alone cover 78 % here
        (5, 24, (0.02, 0.1, 0.2, 0.3)),
        (3, 24, (0.05, 0.2, 0.1, 0.3)),
        (5, 40, (0.0, 0.0, 0.2, 0.4)),
        (5, 60, (0.02, 0.1, 0.2, 0.3, 0.4)),  # runs that share some of their parts
        (5, 12, (0.1, 0.02, 0.05, 0.2)),
    ],
)
def test_crossed_intervals_cover_what_they_say(runs, clusters, spread):
    rng, trials = np.random.default_rng(7), 400
    hits = 0
    for _ in range(trials):
        means, side = layout(rng, runs, clusters, 3, *spread)
        low, high = crossed_interval(means, [side])[1:3]
        hits += low <= 0 <= high
    assert stats.binomtest(hits, trials, 0.95).pvalue > 1e-3 or hits / trials > 0.95
    assert hits / trials > 0.91


def test_an_interval_over_runs_alone_is_too_narrow_where_parts_differ():
    rng = np.random.default_rng(8)
    drawn = [layout(rng, 5, 8, 3, 0.02, 0.2, 0.2, 0.3)[0] for _ in range(400)]
    covered = np.mean([low <= 0 <= high for low, high in (t_interval(means)[1:3] for means in drawn)])
    assert covered < 0.88


@given(st.integers(2, 5), st.integers(2, 9), st.integers(0, 2**31))
def test_a_crossed_interval_holds_its_mean_and_is_at_least_as_wide_as_the_variance_of_its_runs(runs, clusters, seed):
    means, side = layout(np.random.default_rng(seed), runs, clusters, 3, 0.1, 0.1, 0.1, 0.1)
    found = crossed_interval(means, [side])
    assert found.mean == pytest.approx(np.mean(means)) and found.low < found.mean < found.high
    assert 0 <= found.p <= 1 and (found.p < 0.05) == (not found.low <= 0 <= found.high)
    error = stats.sem(means)
    assert found.high - found.low >= 2 * 1.9 * error * 0.999  # no variance is ever taken off that of the runs


def test_without_clusters_it_is_the_t_interval_and_with_one_run_the_clusters_alone():
    means, side = layout(np.random.default_rng(1), 4, 10, 3, 0.1, 0.1, 0.1, 0.1)
    assert crossed_interval(means, []) == pytest.approx(t_interval(means))
    lonely = Side(side.runs, np.zeros(len(side.values)), side.values, side.weights)
    assert crossed_interval(means, [lonely]) == pytest.approx(t_interval(means))
    (mean,), one = layout(np.random.default_rng(1), 1, 10, 1, 0.1, 0.1, 0.1, 0.1)
    expected = stats.t.interval(0.95, 9, loc=mean, scale=stats.sem(one.values))
    assert crossed_interval([mean], [one])[1:3] == pytest.approx(expected)
    assert crossed_interval([0.3], []) == (0.3, None, None, None)


def test_clusters_of_a_single_run_add_nothing_to_what_runs_vary_by():
    rng = np.random.default_rng(3)
    at, values = np.repeat(np.arange(4), 12), rng.normal(size=48)
    own = Side(at, np.array([f"{r}-{i}" for i, r in enumerate(at)]), values, np.full(48, 1 / 12))
    means = [values[at == r].mean() for r in range(4)]
    assert crossed_interval(means, [own])[1:3] == pytest.approx(t_interval(means)[1:3])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_monotone_and_between_the_plain_value_and_bonferroni(values):
    plain = {str(i): p for i, p in enumerate(values)}
    found = holm(plain)
    assert list(found) == list(plain)
    for name, p in plain.items():
        assert p <= found[name] <= min(1, len(values) * p)
    order = sorted(plain, key=plain.__getitem__)
    assert [found[name] for name in order] == sorted(found.values())


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})


@given(st.integers(1, 400), st.floats(0.5, 0.999))
def test_quantiles_of_t_are_those_that_stored_figures_were_computed_with(degrees, confidence):
    """Figures of earlier versions took the quantile from scipy.special."""
    quantile = (1 + confidence) / 2
    assert stats.t.ppf(quantile, degrees) == special.stdtrit(degrees, quantile)
