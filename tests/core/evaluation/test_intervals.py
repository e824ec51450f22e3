import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from partsynth.core.evaluation.intervals import cluster_interval, t_interval

COUNTS = st.integers(1, 60)


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


@given(st.integers(1, 400), st.floats(0.5, 0.999))
def test_quantiles_of_t_are_those_that_stored_figures_were_computed_with(degrees, confidence):
    """Figures of earlier versions took the quantile from scipy.special."""
    quantile = (1 + confidence) / 2
    assert stats.t.ppf(quantile, degrees) == special.stdtrit(degrees, quantile)
