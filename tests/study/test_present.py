"""Results on the terminal."""

from __future__ import annotations

import pytest

from partsynth.records.study import HistoryPoint, Limits, StudyResults, TrialResult
from partsynth.study.present import print_results


@pytest.mark.parametrize("columns", ["80", "200"])
def test_a_table_wider_than_the_terminal_loses_nothing(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    drawn = {
        "temperature": 0.0338,
        "learning_rate": 0.00321,
        "negatives_per_anchor": 0.5,
        "band_low": 0.123,
        "band_high": 0.987,
    }
    trials = [
        TrialResult(
            number=number,
            state="COMPLETE",
            val_accuracy=0.0,
            near_ood_auroc=0.0417,
            drift=1.23e-05,
            feasible=True,
            params=drawn,
            seconds=1.0,
            mlflow_run_id=None,
            retry_of=None,
        )
        for number in (0, 1)
    ]
    found = StudyResults(
        study="wide",
        setup="real_id_negatives",
        mode="constrained",
        limits=Limits(near_ood_auroc=0.5, drift=1.0),
        mlflow_run_id=None,
        data=None,
        counts={"complete": 2},
        best=0,
        pareto=[],
        importance={},
        history=[HistoryPoint(trial=0, val_accuracy=0.0, best=0.0)],
        trials=trials,
    )
    print_results(found)
    told = capsys.readouterr().out
    for word in (
        "temperature",
        "learning",
        "negatives",
        "anchor",
        "1.23e-05",
        "0.0338",
        "0.00321",
        "accuracy",
        "best: trial 0",
    ):
        assert word in told, word
