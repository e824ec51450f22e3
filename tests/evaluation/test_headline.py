"""The headline score is chosen on OOD validation images alone, once for all models."""

from __future__ import annotations

import numpy as np
import pandas as pd

from partsynth.config.evaluation import Evaluate
from partsynth.evaluation.headline import resolve

AUTO = Evaluate(headline_score="auto")


def table(**separations: float) -> pd.DataFrame:
    """Predictions of two models; a score tells OOD validation images apart by its separation, test images otherwise."""
    rng, rows = np.random.default_rng(0), []
    for setup in ("real", "real_id"):
        for part, sign in (("val", 0), ("near_val", 1), ("far_val", 1), ("test", 0), ("near_test", -1)):
            for _ in range(20):
                scores = {name: sign * by + rng.normal() for name, by in separations.items()}
                rows.append({"setup": setup, "seed": 0, "part": part, **scores})
    return pd.DataFrame(rows)


def test_the_best_on_validation_images_is_taken_whatever_the_test_images_say() -> None:
    rows = table(knn=1.0, energy=0.0, mahalanobis=3.0)
    params, choice = resolve(AUTO, rows)
    assert choice is not None and params.headline_score == choice.score == "mahalanobis"
    assert choice.tried["mahalanobis"] > choice.tried["knn"] > choice.tried["energy"]
    assert choice.source == "mean AUROC of near_val and far_val against val, over all models"
    assert resolve(AUTO, rows[~rows.part.isin(["test", "near_test"])])[1] == choice
    assert choice.dump()["from"] == choice.source


def test_of_equals_the_first_registered_one_is_taken() -> None:
    rows = table(knn=1.0)
    rows["energy"] = rows["knn"]
    assert resolve(AUTO, rows)[0].headline_score == "knn"


def test_without_ood_validation_images_it_is_the_default() -> None:
    rows = table(energy=1.0, knn=0.0)
    params, choice = resolve(AUTO, rows[rows.part.isin(["val", "test", "near_test"])])
    assert choice is not None and params.headline_score == "knn" and choice.tried == {}
    assert "no OOD validation images" in choice.source


def test_a_score_that_was_declared_is_not_questioned() -> None:
    params = Evaluate(headline_score="energy")
    assert resolve(params, table(energy=0.0, knn=3.0)) == (params, None)


def test_a_score_whose_number_was_chosen_on_the_same_images_needs_a_lead_of_a_standard_error() -> None:
    rows = table(knn=1.0, mahalanobis=0.0)
    noise = np.random.default_rng(1).normal(size=len(rows))
    close = rows.assign(mahalanobis=rows.knn + 0.2 * noise)
    params, choice = resolve(AUTO, close)
    assert choice is not None and choice.tried["knn"] > choice.tried["mahalanobis"]  # else the case shows nothing
    assert params.headline_score == choice.score == "mahalanobis"
    assert "knn, with a number chosen on them, leads by less than one standard error" in choice.source

    far_behind = rows.assign(mahalanobis=rows.knn + 3 * noise)
    params, choice = resolve(AUTO, far_behind)
    assert choice is not None and params.headline_score == "knn" and "standard error" not in choice.source


def test_scores_without_such_a_number_need_no_lead() -> None:
    rows = table(mahalanobis=1.0)
    rows["energy"] = rows.mahalanobis + 0.2 * np.random.default_rng(1).normal(size=len(rows))
    _, choice = resolve(AUTO, rows)
    assert choice is not None and choice.score == max(choice.tried, key=choice.tried.__getitem__)
    assert "standard error" not in choice.source
