"""Data of the plots."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from partsynth.evaluation.plot_data import GRID, MapPoint, Points, plot_tables, read_histories
from partsynth.evaluation.predictions import read_predictions
from partsynth.evaluation.runs import ModelRun


@pytest.fixture
def table(predictions):
    return read_predictions(predictions)


def test_roc_curves_are_those_of_the_score_and_enclose_its_auroc(table, evaluated):
    for score in ("knn", "energy"):
        text = plot_tables(table, score, {}, "")["roc_far.csv"]
        curves = np.genfromtxt(io.StringIO(text), delimiter=",", names=True)
        assert curves.dtype.names == ("fpr", *evaluated.order) and len(curves) == len(GRID)
        wanted = evaluated.scores["real_id"][f"{score}/far_ood_auroc"].mean
        assert np.trapezoid(curves["real_id"], curves["fpr"]) == pytest.approx(wanted, abs=0.02)


def test_without_the_score_or_the_images_curves_are_a_header_alone(table, evaluated):
    header = ",".join(["fpr", *evaluated.order]) + "\n"
    assert plot_tables(table.drop(columns="knn"), "knn", {}, "")["roc_near.csv"] == header
    assert plot_tables(table[table.part != "near_test"], "knn", {}, "")["roc_near.csv"] == header


def test_few_points_are_drawn_without_t_sne(table):
    rows = [MapPoint(0, "test", "gear", f"{i}.png") for i in range(3)]
    text = plot_tables(table, "knn", {"real": Points(rows, np.eye(3))}, "")["embedding.csv"]
    found = list(csv.DictReader(io.StringIO(text)))
    assert [row["path"] for row in found] == ["0.png", "1.png", "2.png"]
    assert all(np.isfinite([float(row["x"]), float(row["y"])]).all() for row in found)


def test_histories_stand_under_one_header(tmp_path):
    for name, text in (("a", "step,loss\n0,1.5\n"), ("b", "step,accuracy\n0,0.5\n"), ("c", "")):
        (tmp_path / name).mkdir()
        if text:
            (tmp_path / name / "history.csv").write_text(text)
    runs = [ModelRun(name, seed, tmp_path / name) for seed, name in enumerate("abc")]
    assert read_histories(runs) == "setup,seed,step,loss,accuracy\na,0,0,1.5,\nb,1,0,,0.5\n"
    assert read_histories(runs[2:]) == ""
