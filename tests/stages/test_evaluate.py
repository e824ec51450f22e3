"""The stage: what it writes, on what, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.evaluated_project import Project

from partsynth.config.evaluation import Evaluate
from partsynth.config.training import Matrix
from partsynth.errors import UserError
from partsynth.evaluation.runs import model_runs
from partsynth.seams import SCORES
from partsynth.stages.evaluate import log_figures
from partsynth.store.hashing import sha256_file
from partsynth.tracking.query import get_run
from partsynth.tracking.run import RunSpec, training_run

PREDICTIONS, SUMMARY = Path("reports/metrics/predictions.csv"), Path("reports/metrics/summary.json")
DETECTION = {f"{kind}_ood_{name}" for kind in ("near", "far") for name in ("auroc", "aupr_in", "aupr_out", "fpr95")}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("evaluated")).make()


@pytest.fixture(scope="module")
def evaluated(project):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.root)
        return project.evaluate()


@pytest.fixture(autouse=True)
def _in_project(project, monkeypatch):
    monkeypatch.chdir(project.root)


def _rows(path=PREDICTIONS):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_summary_has_the_shape_that_other_tools_read(evaluated):
    """`dvc metrics show`, MLflow's runs, and pages of earlier versions: names of keys stay."""
    summary = json.loads(SUMMARY.read_text())
    assert summary.pop("seal") and "predictions.csv" in summary.pop("sha256")
    assert summary == evaluated.dump()
    assert summary["order"] == ["real", "real_id", "real_id_negatives"]
    for metric in (
        "accuracy_test",
        "accuracy_shifted",
        "near_ood_auroc",
        "near_ood_fpr95",
        "far_ood_auroc",
        "far_ood_fpr95",
        "id_confidence",
        "ood_confidence",
        "macro_f1_test",
        "ece_test",
    ):
        for setup in summary["order"]:
            found = summary["setups"][setup][metric]
            assert len(found["values"]) == 2 and all(0 <= v <= 1 for v in found["values"])
            assert found["low"] <= found["mean"] <= found["high"]
            assert found["mean"] == pytest.approx(np.mean(found["values"]), abs=1e-6)
    assert {(d["setup"], d["base"]) for d in summary["differences"]} == {
        ("real_id", "real"),
        ("real_id_negatives", "real_id"),
        ("real_id_negatives", "real"),
    }
    assert summary["absent"] == {}
    assert summary["predictions_sha256"] == sha256_file(PREDICTIONS)
    assert summary["data"]["parts"]["near_test"] == {"pictures": 8, "classes": 2, "groups": 4}
    assert summary["data"]["training"]["real_id_negatives"] == {
        "real positive": 24,
        "id positive": 48,
        "near_ood negative": 48,
    }
    assert set(summary["scores"]["real"]) == {
        f"{s}/{k}_ood_auroc" for s in SCORES if SCORES[s].always for k in ("near", "far")
    }
    assert set(summary["choices"]["real"]["0"]) == {"k", "from", "tried"}


def test_columns_of_the_predictions_stay(evaluated):
    assert PREDICTIONS.read_text().splitlines()[0] == (
        "setup,seed,part,path,class_name,group,predicted,knn_predicted,confidence,"
        "knn,max_softmax,energy,mahalanobis,relative_mahalanobis,vim,prototype_cosine"
    )


def test_each_model_s_figures_go_to_its_run(project, evaluated, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.root}/mlflow.db")
    folder = Path("models/supcon/real_id/1")
    with training_run(project.root, RunSpec(stage="train", setup="real_id", seed=1, fingerprint="mark")) as run:
        (folder / "run.json").write_text(json.dumps(run.identity))
    (folder.parent / "0/run.json").write_text(json.dumps({"run_id": "0" * 32}))
    log_figures(model_runs(folder.parents[1], Matrix(seeds=[0, 1])), evaluated, project.root)
    logged = get_run(project.root, run.run_id).metrics
    assert logged["near_ood_auroc"] == evaluated.setups["real_id"]["near_ood_auroc"].values[1]
    assert logged["accuracy_test"] == evaluated.setups["real_id"]["accuracy_test"].values[1]
    assert "does not know the runs of real_id-seed0 (" in capsys.readouterr().out
    for seed in "01":
        (folder.parent / seed / "run.json").unlink()


def test_same_bytes_again(evaluated, project):
    files = [p for p in Path("reports").rglob("*") if p.is_file() and p.name != "index.html"]
    before = {p: p.read_bytes() for p in files}
    project.evaluate()
    assert {p: p.read_bytes() for p in files} == before
    assert {p.name for p in files} >= {"roc_near.csv", "roc_far.csv", "embedding.csv", "history.csv", "real_id.csv"}


def test_plots_are_what_dvc_reads(evaluated):
    roc = np.genfromtxt("reports/plots/roc_near.csv", delimiter=",", names=True)
    assert roc.dtype.names == ("fpr", "real", "real_id", "real_id_negatives")
    area = np.trapezoid(roc["real"], roc["fpr"])
    assert area == pytest.approx(evaluated.setups["real"]["near_ood_auroc"].mean, abs=0.02)
    confusion = _rows(Path("reports/plots/confusion/real.csv"))
    assert len(confusion) == 2 * 24 and set(confusion[0]) == {"seed", "actual", "predicted"}
    embedding = _rows(Path("reports/plots/embedding.csv"))
    assert {r["part"] for r in embedding} == {"test", "near_test", "far_test"} and {r["seed"] for r in embedding} == {
        "0"
    }


def test_every_choice_is_recorded(evaluated):
    for setup in evaluated.order:
        for seed in ("0", "1"):
            assert evaluated.choices[setup][seed].k in (1, 3)


def test_scores_are_fitted_to_real_training_images_only(evaluated):
    """Setups that train on more images get no larger kNN bank: a test image's score uses the real ones alone."""
    assert not [r for r in _rows() if r["part"] == "train"]
    assert evaluated.data.parts["train"].pictures == 24


def test_confidence_is_the_complement_of_the_max_softmax_score(evaluated):
    for row in _rows()[:50]:
        assert float(row["confidence"]) + float(row["max_softmax"]) == pytest.approx(1, abs=1e-5)


def test_without_ood_and_shifted_the_metrics_are_absent_and_say_why(project, tmp_path, monkeypatch):
    small = Project(
        tmp_path, ood=False, setups=("real", "real_id"), seeds=(0,), counts=(("train", 3), ("val", 3), ("test", 3))
    ).make()
    monkeypatch.chdir(tmp_path)
    summary = small.evaluate()
    assert set(summary.absent) == {"accuracy_shifted", *DETECTION}
    assert "ood.holdout_classes" in summary.absent["near_ood_auroc"]
    assert not set(summary.absent) & set(summary.setups["real"])
    assert Path("reports/plots/roc_near.csv").read_text() == "fpr,real,real_id\n"
    # one seed: intervals over parts alone, and the sentence says so
    assert [c.of for c in summary.setups["real"]["accuracy_test"].clusters] == ["physical parts"]
    assert summary.setups["real"]["macro_f1_test"].low is None
    assert summary.difference("real_id", "real", "accuracy_test").seeds_alone is None
    assert [s.effect for s in summary.verdict] == ["too few to tell"]
    assert "(1 seed and " in summary.verdict[0].text
    assert "Not measured" in small.report()


def test_faults_are_named(project, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(project.root, copy)
    monkeypatch.chdir(copy)
    some = project.but(root=copy, setups=("real",), seeds=(0,))
    with pytest.raises(UserError, match="models/supcon/real/7, models/supcon/gone/0, models/supcon/gone/7"):
        some.but(setups=("real", "gone"), seeds=(0, 7)).evaluate()
    image = next(Path("data/real/test").rglob("*.png"))
    before = image.read_bytes()
    image.write_bytes(before + b"x")
    with pytest.raises(UserError, match="differs from its manifest"):
        some.evaluate()
    image.write_bytes(before)
    config = Path("models/supcon/real/0/config.json")
    config.write_text(config.read_text().replace("gear_t6", "pump_t6"))
    with pytest.raises(UserError, match=r"pump_t6.*training images show.*gear_t6"):
        some.evaluate()


def test_a_device_that_is_not_there_is_said(project, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"evaluate\.device is cuda, but torch sees no CUDA device"):
        project.evaluate(Evaluate(device="cuda"))
