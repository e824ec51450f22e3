"""Models evaluated by several processes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from partsynth.evaluation.looks import Look
from partsynth.evaluation.plot_data import MapPoint, Points
from partsynth.evaluation.predictions import Prediction
from partsynth.evaluation.results import Choice, EvaluatedRun
from partsynth.evaluation.runs import ModelRun
from partsynth.evaluation.together import OfRun, evaluated_together


def of_run(seed: int, drawn: bool) -> OfRun:
    scores = {"knn": 1 / 3, "energy": -math.inf, "max_softmax": np.nextafter(0.5, 1).item()}
    row = Prediction("real", seed, "test", "a.png", "gear", "g1", "gear", "flange", 0.1 + 0.2, scores)
    points = Points([MapPoint(seed, "test", "gear", "a.png")], np.random.default_rng(seed).normal(size=(1, 5)))
    return OfRun(
        run=EvaluatedRun(setup="real", seed=seed, config={"metrics": {"loss": 0.1}}, sha256={"x": "y"}),
        choice=Choice.model_validate({"k": 3, "from": "val", "tried": {"3": 0.5}}),
        rows=[row],
        points=points if drawn else None,
        looks=[Look("real", seed, "a.png", "gear", "gear", 1, "", 0.25, 1, "255")] if drawn else [],
    )


def test_what_a_process_found_keeps_every_digit_on_its_way() -> None:
    for drawn in (True, False):
        before = of_run(1, drawn)
        after = OfRun.load(json.loads(json.dumps(before.dump())))
        assert (after.run, after.choice, after.rows, after.looks) == (
            before.run,
            before.choice,
            before.rows,
            before.looks,
        )
        assert after.choice.dump() == before.choice.dump()
        if before.points is None:
            assert after.points is None
        else:
            assert after.points is not None and after.points.rows == before.points.rows
            np.testing.assert_array_equal(after.points.features, before.points.features)


def test_one_process_evaluates_all_models_in_their_order_and_leaves_no_file(tmp_path: Path) -> None:
    runs = [ModelRun("real", seed, tmp_path) for seed in (2, 0, 1)]
    found = evaluated_together(runs, tmp_path / "work", lambda run: of_run(run.seed, drawn=False))
    assert [one.run.seed for one in found] == [2, 0, 1] and not (tmp_path / "work").exists()
