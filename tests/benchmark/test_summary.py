"""What replicates say together: the figures are those of each, and of the predictions alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.replicates import SETUPS, finished, loaded, small_report
from typer.testing import CliRunner

from partsynth.benchmark import plan
from partsynth.benchmark.report import report, report_again
from partsynth.benchmark.summary import best_choice, primary, targets
from partsynth.cli.main import app
from partsynth.config.benchmark import BenchmarkPrimary, BenchmarkTarget
from partsynth.config.evaluation import Evaluate
from partsynth.errors import UserError
from partsynth.evaluation.format import percent, points
from partsynth.evaluation.predictions import read_predictions, recompute
from partsynth.evaluation.results import BenchmarkSummary, Difference, read_benchmark
from partsynth.evaluation.summary import summarise, summarise_replicates
from partsynth.reporting.benchmark import page
from partsynth.seams import SCORES
from partsynth.store.hashing import sha256_file
from partsynth.store.layout import Layout


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("reported")
    small_report(made)
    return made


@pytest.fixture(scope="module")
def found(root: Path) -> BenchmarkSummary:
    return read_benchmark(root / "out/small.json")


def test_recomputed_figures_are_the_reports(root: Path, found: BenchmarkSummary) -> None:
    path = root / "out/small-predictions.csv.gz"
    again = recompute(path)
    assert isinstance(again, BenchmarkSummary)
    for key in ("setups", "differences", "scores", "classes", "absent", "seeds", "order", "predictions_sha256"):
        assert getattr(again, key) == getattr(found, key), key
    for shots in ("1", "4"):
        assert again.few_shot[shots].setups == found.few_shot[shots].setups
        assert again.few_shot[shots].differences == found.few_shot[shots].differences
    assert found.predictions_sha256 == sha256_file(path)
    result = CliRunner().invoke(app, ["recompute", str(path)])
    assert result.exit_code == 0
    difference = found.difference("real_vae", "real_id", "accuracy_shifted")
    assert difference is not None and f"{points(difference.mean)} [" in result.stdout
    assert "4 training images per class" in result.stdout


def test_what_else_ran_has_no_say_in_the_main_setups_score(root: Path) -> None:
    """A control and fewer shots tell OOD validation images apart by another score, and are more models."""
    rows = read_predictions(root / "out/small-predictions.csv.gz")
    rows = pd.concat([rows, rows[rows.part == "near_test"].assign(part="near_val")], ignore_index=True)
    others = (rows.shots > 0) | (rows.setup == "real_vae")
    foreign = (rows.part == "near_val").astype(float)
    tie = np.random.default_rng(0).normal(size=len(rows))  # of the scores that are not to be taken
    rows = rows.assign(**{name: tie for name in SCORES if name in rows})
    rows = rows.assign(energy=np.where(others, tie, foreign), mahalanobis=np.where(others, foreign, tie))
    params, main = Evaluate(headline_score="auto"), ["real", "real_id", "real_neg"]
    score, alone = (summarise_replicates(table, params, None, main).headline_choice for table in (rows, rows[~others]))
    assert score is not None and score == alone and score.score == "energy"
    assert score.source.endswith("over the main setups' models")


def test_joined_figures_are_those_of_each_replicate(root: Path, found: BenchmarkSummary) -> None:
    assert found.seeds == {"real": [3, 5, 9], "real_id": [3, 5, 9], "real_neg": [3, 5, 9], "real_vae": [3, 5]}
    for position, seed in enumerate((3, 5, 9)):
        path = Layout(root / f"work/all-seed{seed}").predictions
        alone = summarise(read_predictions(path), Evaluate(), None)
        for setup in alone.order:
            for metric, interval in found.setups[setup].items():
                assert interval.values[position] == alone.setups[setup][metric].values[0], metric
            assert "accuracy_generated_id" not in found.setups[setup]  # not all that a replicate measured is joined
    paired = found.difference("real_vae", "real", "accuracy_test")
    a, b = (found.setups[s]["accuracy_test"].values[:2] for s in ("real_vae", "real"))
    assert paired is not None and paired.values == pytest.approx(np.subtract(a, b), abs=2e-6)
    assert set(found.pairs()) == {
        ("real_id", "real"),
        ("real_neg", "real_id"),
        ("real_vae", "real"),
        ("real_vae", "real_id"),
    }
    assert found.compared == [
        ("real_id", "real"),
        ("real_neg", "real_id"),
        ("real_vae", "real"),
        ("real_vae", "real_id"),
    ]


def test_each_replicate_says_what_it_is_made_of(found: BenchmarkSummary) -> None:
    assert found.benchmark is not None
    replicates = found.benchmark.replicates
    assert replicates[3].mlflow_runs == {"real": "shots1-seed5 real", "real_id": "shots1-seed5 real_id"}
    assert replicates[3].shots == 1 and replicates[0].shots is None
    assert set(replicates[0].files) == {"params.yaml", "dvc.yaml", "dvc.lock"}
    assert (found.benchmark.minutes, found.benchmark.git_commit, found.shots_of_all) == (7.0, "c0", 16.0)


def test_initialisations_of_a_replicate_are_averaged(tmp_path: Path) -> None:
    params = loaded(tmp_path, initialisations=2)
    replicates = plan.plan(params, quick=False)
    finished(tmp_path / "work", replicates)
    written = report(params, replicates, tmp_path / "work", tmp_path, "twice", "partsynth benchmark")
    assert "trains each setup 2 times: its figures are their means" in written.read_text()
    found = read_benchmark(tmp_path / "twice.json")
    assert found.seeds["real"] == [3, 5, 9] and found.benchmark is not None
    runs = found.benchmark.replicates[3].mlflow_runs
    assert runs["real"] == "shots1-seed5 real" and runs["real, seed 1005"] == "shots1-seed5 real 1005"
    for position, folder in enumerate(("all-seed3", "all-seed5", "all-seed9")):
        alone = summarise(read_predictions(Layout(tmp_path / "work" / folder).predictions), Evaluate(), None)
        for metric in ("accuracy_test", "near_ood_auroc"):
            wanted = np.mean(alone.setups["real_id"][metric].values)
            assert found.setups["real_id"][metric].values[position] == pytest.approx(wanted, abs=2e-6)
    again = recompute(tmp_path / "twice-predictions.csv.gz")
    assert again.setups == found.setups and again.differences == found.differences


def test_replicates_may_have_test_images_of_their_own(tmp_path: Path) -> None:
    params = loaded(tmp_path)
    replicates = plan.plan(params, quick=False)[:3]
    finished(tmp_path / "work", replicates, same_test=False)
    report(params, replicates, tmp_path / "work", tmp_path, "own", "partsynth benchmark")
    found = read_benchmark(tmp_path / "own.json")
    difference = found.difference("real_id", "real", "accuracy_test")
    assert difference is not None
    assert len(difference.values) == 3 and found.order == list(SETUPS)
    assert difference.clusters[0].count == 5 + 6 + 6  # parts of seeds 5, 3, 9: their own in each
    assert recompute(tmp_path / "own-predictions.csv.gz").setups == found.setups


def test_targets_are_met_or_missed_or_not_measured(root: Path, found: BenchmarkSummary) -> None:
    assert [target.met for target in found.targets] == [True, False, False]
    shown, whole = found.targets[0].difference, found.difference("real_id", "real", "accuracy_shifted")
    assert shown is not None and whole is not None
    assert (shown.mean, shown.low, shown.high, shown.values) == (whole.mean, whole.low, whole.high, whole.values)
    one_seed = [
        Difference(setup="real_id", base="real", metric=metric, mean=0.5, values=[0.5])
        for metric in ("accuracy_shifted", "accuracy_test")
    ]
    without = found.model_copy(update={"differences": one_seed})
    assert [target.met for target in targets(loaded(root), without, "real")] == [None, None, None]


def test_the_best_setup_is_chosen_on_validation_images(root: Path, found: BenchmarkSummary) -> None:
    table = read_predictions(root / "out/small-predictions.csv.gz")
    whole = table[(table.part == "val") & (table.shots == 0)]
    mains = [name for name, kind in found.kinds.items() if kind == "main"]
    tried = {
        name: np.mean([(of.predicted == of.class_name).mean() for _, of in whole[whole.setup == name].groupby("seed")])
        for name in mains
    }
    assert found.best_choice is not None and found.best == found.best_choice.setup
    assert found.best_choice.tried == pytest.approx(tried, abs=1e-6)
    assert tried[found.best] == max(tried.values())
    blind = table.assign(predicted=table.predicted.where(table.part != "test", "nothing"))
    assert best_choice(loaded(root), blind) == found.best_choice  # test images have no say


def test_a_target_may_be_a_figure_of_the_best_setup(root: Path, found: BenchmarkSummary) -> None:
    params, reached = loaded(root), found.setups[found.best]["accuracy_test"].mean
    aims = [BenchmarkTarget(setup="best", measure="accuracy_test", mean=reached + by) for by in (-0.001, 0.001)]
    wanted = params.model_copy(update={"benchmark": params.benchmark.model_copy(update={"targets": aims})})
    told = targets(wanted, found, found.best)
    assert [(t.setup, t.against, t.met) for t in told] == [(found.best, None, True), (found.best, None, False)]
    text = page(found.model_copy(update={"targets": told}), "small")
    assert f"| `{found.best}`, accuracy, test | mean at least" in text and f"| {percent(reached)} [" in text


def test_declared_hypotheses_are_corrected_together(root: Path, found: BenchmarkSummary) -> None:
    declared = [
        BenchmarkPrimary(question="id", setup="real_id", base="real", metric="accuracy_shifted"),
        BenchmarkPrimary(question="negatives", setup="real_neg", base="real_id", metric="near_ood_auroc"),
        BenchmarkPrimary(question="absent", setup="real_neg", base="real_id", metric="macro_f1_test"),
    ]
    params = loaded(root)
    wanted = params.model_copy(update={"benchmark": params.benchmark.model_copy(update={"primary": declared})})

    def with_p(**p_values: float) -> BenchmarkSummary:
        differences = [
            Difference(setup=s, base=b, metric=m, mean=0.1, low=0.01, high=0.19, values=[0.1] * 5, p=p_values[m])
            for s, b, m in (("real_id", "real", "accuracy_shifted"), ("real_neg", "real_id", "near_ood_auroc"))
        ]
        return found.model_copy(update={"differences": differences})

    told = primary(wanted, with_p(accuracy_shifted=0.01, near_ood_auroc=0.04))
    assert [(p.question, p.p_holm, p.effect) for p in told] == [
        ("id", 0.03, "helps"),
        ("negatives", 0.08, "no evidence"),  # alone it would be below 0.05
        ("absent", None, None),
    ]
    assert (told[0].mean, told[0].low, told[0].high, told[0].p) == (0.1, 0.01, 0.19, 0.01)


def test_figures_can_be_made_anew_from_the_predictions(root: Path, found: BenchmarkSummary, tmp_path: Path) -> None:
    for name in ("small.json", "small-predictions.csv.gz", "small.md"):
        shutil.copy(root / "out" / name, tmp_path / name)
    (tmp_path / "small.md").unlink()
    page = report_again(loaded(root), tmp_path, "small")
    assert page.read_text() == (root / "out/small.md").read_text()
    assert read_benchmark(tmp_path / "small.json") == found
    (tmp_path / "small-predictions.csv.gz").write_bytes(b"other")
    with pytest.raises(UserError, match=r"not what small\.json was computed from"):
        report_again(loaded(root), tmp_path, "small")
