"""Runs that no training of this process holds."""

from __future__ import annotations

from helpers.runs import start

from partsynth.tracking.query import get_run
from partsynth.tracking.studies import log_results


def test_figures_of_an_evaluation_are_added_to_a_run(plain):
    with start(plain, "evaluated") as run:
        pass
    assert log_results(plain, run.run_id, {"accuracy_test": 0.75})
    found = get_run(plain, run.run_id)
    assert found.metrics["accuracy_test"] == 0.75 and found.status == "FINISHED"
    assert not log_results(plain, "0" * 32, {"accuracy_test": 0.75})
