"""What is written can be read, and what was written before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from partsynth.errors import UserError
from partsynth.evaluation.predictions import recompute
from partsynth.evaluation.results import read_benchmark, read_summary
from partsynth.store.files import write_json

REPORTS = Path(__file__).parents[2] / "reports"


def test_a_summary_is_the_dump_of_its_model(evaluated, tmp_path):
    write_json(tmp_path / "summary.json", evaluated.dump())
    assert read_summary(tmp_path / "summary.json") == evaluated
    assert read_summary(tmp_path / "summary.json").dump() == evaluated.dump()


def test_what_was_not_at_hand_is_not_written(predictions):
    alone = recompute(predictions)
    assert {"setups", "differences", "verdict", "predictions_sha256"} <= set(alone.dump())
    assert not {"choices", "runs", "data", "few_shot"} & set(alone.dump())


def test_differences_that_stood_under_names_of_pairs_are_read(evaluated, tmp_path):
    """Before they were a list: "<setup>-<base>" -> metric -> interval."""
    old = evaluated.dump()
    by_pair = {}
    for entry in old["differences"]:
        found = by_pair.setdefault(f"{entry.pop('setup')}-{entry.pop('base')}", {})
        found[entry.pop("metric")] = {key: value for key, value in entry.items() if value is not None}
    write_json(tmp_path / "summary.json", old | {"differences": by_pair})
    found = read_summary(tmp_path / "summary.json")
    assert sorted(found.pairs()) == sorted(evaluated.pairs())
    for wanted in evaluated.differences:
        assert found.difference(wanted.setup, wanted.base, wanted.metric) == wanted


def test_committed_benchmarks_are_read():
    committed = sorted(REPORTS.glob("benchmark*.json"))  # beside them are others' figures: peers, percentiles, a GPU's
    assert len(committed) >= 4
    for path in committed:
        found, plain = read_benchmark(path), json.loads(path.read_text())
        assert found.order == plain["order"] and len(found.differences) >= len(found.compared)
        assert {shots: of.order for shots, of in found.few_shot.items()} == {
            shots: of["order"] for shots, of in plain["few_shot"].items()
        }
        assert found.benchmark.replicates and all(pair in found.pairs() for pair in found.compared)


def test_faults_of_a_summary_are_one_sentence(tmp_path):
    path = tmp_path / "summary.json"
    with pytest.raises(UserError, match=r"summary.json is missing"):
        read_summary(path)
    path.write_text("{}")
    with pytest.raises(UserError, match=r"summary.json is no summary of this version \(setups: .*dvc repro evaluate"):
        read_summary(path)
    with pytest.raises(UserError, match="partsynth benchmark writes it anew"):
        read_benchmark(path)
