"""Metrics as means over images, run by run."""

from __future__ import annotations

import pytest

from partsynth.evaluation.crossed import contrasts, estimate
from partsynth.evaluation.metrics import Run
from partsynth.evaluation.predictions import read_predictions
from partsynth.seams import METRICS


@pytest.fixture(scope="module", params=[False, True], ids=["images", "classes"])
def runs(request, evaluated_project):
    table, found = read_predictions(evaluated_project[0].root / "reports/metrics/predictions.csv"), {}
    for (setup, seed, part), rows in table.groupby(["setup", "seed", "part"], sort=False):
        found.setdefault(setup, {}).setdefault(seed, {})[part] = rows.sort_values("path", kind="stable")
    return {s: {n: [Run(parts, "knn", 0.95, request.param)] for n, parts in of.items()} for s, of in found.items()}


@pytest.mark.parametrize("name", [name for name in METRICS if METRICS[name].per_image])
def test_a_weighted_mean_of_each_side_is_the_metric_and_of_contrasts_the_difference(runs, name):
    metric, (a, b) = METRICS[name], (runs["real_id"], runs["real"])
    for about in metric.per_image:
        for seed, (run,) in a.items():
            weights = run.weights(about.part) if about.weighted else 1 / len(run[about.part])
            assert (about.values(run) * weights).sum() == pytest.approx(metric.compute(run), abs=1e-9)
            one = contrasts(about, [{seed: [run]}, {seed: b[seed]}])
            wanted = metric.compute(run) - metric.compute(b[seed][0])
            assert (one * weights).sum() == pytest.approx(wanted, abs=1e-9)


def test_seeds_that_one_setup_lacks_are_left_out(runs):
    metric, (a, b) = METRICS["accuracy_test"], (runs["real_id"], runs["real"])
    seed = max(a)
    few = {seed: b[seed]}
    assert len(contrasts(metric.per_image[0], [a, few])) == len(a[seed][0]["test"])
    values = [metric.compute(a[seed][0]) - metric.compute(b[seed][0])]
    found, over = estimate(metric, values, [a, few], 0.95)
    assert found.mean == values[0] and found.low <= found.mean <= found.high  # over parts alone
    assert over[0].count == a[seed][0]["test"].group.nunique()


def test_initialisations_on_the_same_images_count_as_their_mean(runs):
    about, (a, b) = METRICS["accuracy_test"].per_image[0], (runs["real_id"], runs["real"])
    seed = max(a)
    plain = [about.values(of[seed][0]) for of in (a, b)]
    assert contrasts(about, [{seed: [*a[seed], *b[seed]]}]) == pytest.approx((plain[0] + plain[1]) / 2)
    found = contrasts(about, [{seed: [*a[seed], *b[seed]]}, {seed: b[seed]}])
    assert found == pytest.approx((plain[0] - plain[1]) / 2) and found.any()
