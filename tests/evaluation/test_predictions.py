"""Tables of predictions, and all figures from them again."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest

from partsynth.config.evaluation import Evaluate
from partsynth.errors import UserError
from partsynth.evaluation.predictions import Prediction, read_predictions, recompute, to_csv
from partsynth.evaluation.results import BenchmarkSummary, read_benchmark
from partsynth.reporting.text import render_table
from partsynth.seams import SCORES

REPORTS = Path(__file__).parents[2] / "reports"
FACTS = "setup,seed,part,path,group,predicted,knn_predicted,confidence"


def test_predictions_have_a_column_per_score_and_six_digits():
    row = Prediction("real", 0, "test", "a.png", "gear", "g", "gear", "shaft", 0.123456789, {"knn": 1e-9, "vim": 2.0})
    assert to_csv([row]) == (
        "setup,seed,part,path,class_name,group,predicted,knn_predicted,confidence,knn,vim\n"
        "real,0,test,a.png,gear,g,gear,shaft,0.123457,1e-09,2\n"
    )


def test_recomputed_from_the_stored_predictions_alone(evaluated, predictions, tmp_path):
    copy = tmp_path / "elsewhere.csv"
    lines = predictions.read_text().splitlines()
    copy.write_text("\n".join(lines) + "\n")
    found = recompute(copy, Evaluate())
    for part in ("setups", "differences", "scores", "classes", "absent", "predictions_sha256", "order"):
        assert getattr(found, part) == getattr(evaluated, part)
    text = render_table(found)
    mean = evaluated.setups["real_id"]["accuracy_shifted"].mean
    assert f"{100 * mean:.1f} [" in text and "real_id_negatives" in text
    # the order of images in the file means nothing
    body = lines[1:]
    shuffled = [line for setup in found.order for line in reversed([b for b in body if b.startswith(f"{setup},")])]
    copy.write_text("\n".join([lines[0], *shuffled]) + "\n")
    assert recompute(copy).differences == evaluated.differences


def test_a_table_of_something_else_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no columns class_name"):
        read_predictions(io.StringIO(f"{FACTS},{','.join(SCORES)}\n"))
    with pytest.raises(UserError, match="is missing: run the evaluate stage"):
        read_predictions(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match="cannot be read as a table of predictions"):
        read_predictions(tmp_path / "empty.csv")


def test_a_setup_without_test_images_is_named(predictions, tmp_path):
    table = pd.read_csv(predictions, dtype=str, keep_default_na=False)
    table.loc[table.index[0], "setup"] = "x" * 100_000
    table.to_csv(tmp_path / "predictions.csv", index=False)
    with pytest.raises(UserError, match=r"no prediction of the part test by setup 'x{40}'"):
        read_predictions(tmp_path / "predictions.csv")


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """The photographs' benchmark as committed, and without some of its columns."""
    table = pd.read_csv(REPORTS / "benchmark-photos-predictions.csv.gz", dtype=str, keep_default_na=False)

    def without(*columns):
        path = tmp_path_factory.mktemp("predictions") / "predictions.csv.gz"
        table.drop(columns=list(columns)).to_csv(path, index=False)
        return recompute(path)

    return recompute(REPORTS / "benchmark-photos-predictions.csv.gz"), without


def test_committed_predictions_give_their_report(committed):
    found, _ = committed
    report = read_benchmark(REPORTS / "benchmark-photos.json")
    assert isinstance(found, BenchmarkSummary)
    assert found.predictions_sha256 == report.predictions_sha256
    assert (found.setups, found.scores, found.classes, found.seeds) == (
        report.setups,
        report.scores,
        report.classes,
        report.seeds,
    )
    assert {(d.setup, d.base, d.metric): d for d in found.differences} == {
        (d.setup, d.base, d.metric): d for d in report.differences
    }


def test_committed_predictions_without_some_scores_stay_readable(committed):
    whole, without = committed
    found = without("vim", "prototype_cosine")
    assert found.setups == whole.setups and found.differences == whole.differences
    assert "the predictions have no column vim" in found.absent["vim/near_ood_auroc"]
    assert "vim" in render_table(found)


def test_committed_predictions_without_the_headline_score_have_no_detection_metrics(committed):
    whole, without = committed
    found = without("knn")
    assert found.setups["real"]["accuracy_test"] == whole.setups["real"]["accuracy_test"]
    assert "near_ood_auroc" in whole.setups["real"] and "near_ood_auroc" not in found.setups["real"]
    assert "no column knn" in found.absent["near_ood_auroc"]


def test_committed_predictions_without_any_score_still_tell_accuracy(committed):
    whole, without = committed
    found = without(*(score for score in SCORES if SCORES[score].always))
    assert found.setups["real"]["accuracy_test"] == whole.setups["real"]["accuracy_test"]
    assert set(found.scores["real"]) == set()
