"""`partsynth recompute`, and the option that it was before."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from typer.testing import CliRunner

from partsynth.cli.main import app

REPORTS = Path(__file__).parents[2] / "reports"


@pytest.fixture
def predictions(tmp_path, monkeypatch):
    """A file with the two parts of two setups that some figures need, in a folder without params.yaml."""
    monkeypatch.chdir(tmp_path)
    lines = gzip.decompress((REPORTS / "benchmark-photos-predictions.csv.gz").read_bytes()).decode().splitlines()
    path = tmp_path / "predictions.csv.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def test_recompute_prints_the_table(predictions):
    found = CliRunner().invoke(app, ["recompute", str(predictions)])
    assert found.exit_code == 0, found.output
    assert "accuracy, test" in found.stdout and "near-OOD AUROC" in found.stdout and not found.stderr


def test_the_old_option_says_its_new_name_and_does_the_same(predictions):
    new = CliRunner().invoke(app, ["recompute", str(predictions)])
    old = CliRunner().invoke(app, ["evaluate", "--from-predictions", str(predictions)])
    assert (old.exit_code, old.stdout) == (0, new.stdout)
    assert old.stderr == f"evaluate --from-predictions is now a command: partsynth recompute {predictions}\n"


def test_section_evaluate_counts(predictions):
    Path("params.yaml").write_text("evaluate: {headline_score: max_softmax, confidence: 0.5}\n")
    narrow = CliRunner().invoke(app, ["recompute", str(predictions)])
    Path("params.yaml").unlink()
    wide = CliRunner().invoke(app, ["recompute", str(predictions)])
    assert "50 % CI" in narrow.stdout and "95 % CI" in wide.stdout
    assert narrow.stdout != wide.stdout


def test_a_file_that_is_not_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in (["recompute", "none.csv"], ["evaluate", "--from-predictions", "none.csv"]):
        found = CliRunner().invoke(app, arguments)
        assert found.exit_code == 1
        assert "partsynth: none.csv is missing: run the evaluate stage" in found.stderr


def test_help_explains_what_it_is_for():
    found = CliRunner().invoke(app, ["recompute", "--help"])
    assert "stored predictions alone" in found.stdout
