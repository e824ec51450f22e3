import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.evaluated_project import Project
from sklearn.metrics import roc_auc_score

from partsynth.config.training import Evaluate, Matrix
from partsynth.core.evaluation import ood as scoring
from partsynth.errors import UserError
from partsynth.evaluation.predict import Embedded, choose_k
from partsynth.evaluation.predictions import read_predictions, recompute
from partsynth.evaluation.summary import _contrasts
from partsynth.evaluation.verdict import changes, verdict
from partsynth.reporting.text import render_table
from partsynth.stages.evaluate import _log, _runs
from partsynth.store.hashing import sha256_file
from partsynth.tracking.query import get_run
from partsynth.tracking.run import RunSpec, training_run

PREDICTIONS, SUMMARY = Path("reports/metrics/predictions.csv"), Path("reports/metrics/summary.json")


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


def _rows():
    return list(csv.DictReader(PREDICTIONS.open()))


def test_summary_has_the_shape_that_other_tools_read(evaluated):
    summary = json.loads(SUMMARY.read_text())
    assert summary == evaluated
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
    assert set(summary["differences"]) == {"real_id-real", "real_id_negatives-real_id", "real_id_negatives-real"}
    assert summary["absent"] == {}
    assert summary["predictions_sha256"] == sha256_file(PREDICTIONS)
    assert summary["data"]["parts"]["near_test"] == {"pictures": 8, "classes": 2, "groups": 4}
    assert summary["data"]["training"]["real_id_negatives"] == {
        "real positive": 24,
        "id positive": 48,
        "near_ood negative": 48,
    }
    assert set(summary["scores"]["real"]) == {f"{s}/{k}_ood_auroc" for s in scoring.SCORES for k in ("near", "far")}


def test_each_model_s_figures_go_to_its_run(project, evaluated, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.root}/mlflow.db")
    folder = Path("models/supcon/real_id/1")
    with training_run(project.root, RunSpec(stage="train", setup="real_id", seed=1, fingerprint="mark")) as run:
        (folder / "run.json").write_text(json.dumps(run.identity))
    (folder.parent / "0/run.json").write_text(json.dumps({"run_id": "0" * 32}))
    _log(_runs(folder.parents[1], Matrix(seeds=[0, 1])), evaluated, project.root)
    logged = get_run(project.root, run.run_id).metrics
    assert logged["near_ood_auroc"] == evaluated["setups"]["real_id"]["near_ood_auroc"]["values"][1]
    assert logged["accuracy_test"] == evaluated["setups"]["real_id"]["accuracy_test"]["values"][1]
    assert "does not know the runs of real_id-seed0:" in capsys.readouterr().out
    for seed in "01":
        (folder.parent / seed / "run.json").unlink()


def test_figures_follow_from_the_predictions_by_an_independent_path(evaluated):
    rows = [r for r in _rows() if r["setup"] == "real_id" and r["seed"] == "1"]
    test = [r for r in rows if r["part"] == "test"]
    near = [r for r in rows if r["part"] == "near_test"]
    found = evaluated["setups"]["real_id"]
    assert found["accuracy_test"]["values"][1] == pytest.approx(
        np.mean([r["class_name"] == r["predicted"] for r in test]), abs=1e-6
    )
    truth, knn = [0] * len(test) + [1] * len(near), [float(r["knn"]) for r in test + near]
    assert found["near_ood_auroc"]["values"][1] == pytest.approx(roc_auc_score(truth, knn), abs=1e-6)
    cut = np.quantile([float(r["knn"]) for r in test], 0.95, method="inverted_cdf")
    assert found["near_ood_fpr95"]["values"][1] == pytest.approx(
        np.mean([float(r["knn"]) <= cut for r in near]), abs=1e-6
    )
    confident = [float(r["confidence"]) for r in rows if r["part"] == "val"]
    assert found["id_confidence"]["values"][1] == pytest.approx(np.mean(confident), abs=1e-6)


def test_differences_are_paired_over_seeds(evaluated):
    a, b = (evaluated["setups"][s]["accuracy_test"]["values"] for s in ("real_id", "real"))
    found = evaluated["differences"]["real_id-real"]["accuracy_test"]
    assert found["values"] == pytest.approx(np.subtract(a, b), abs=2e-6)
    boot = found["bootstrap"]
    assert boot["of"] == "physical parts" and boot["clusters"] == 12 and boot["low"] <= found["mean"] <= boot["high"]
    assert evaluated["differences"]["real_id-real"]["near_ood_auroc"]["bootstrap"]["clusters"] == 2


def test_contrasts_average_to_the_difference_itself(evaluated):
    table = read_predictions(PREDICTIONS)
    runs = {}
    for (setup, seed, part), rows in table.groupby(["setup", "seed", "part"], sort=False):
        runs.setdefault(setup, {}).setdefault(seed, {})[part] = rows
    for metric, (values, clusters, _) in _contrasts(runs["real_id"], runs["real"], [0, 1], 0.95).items():
        assert len(values) == len(clusters)
        assert values.mean() == pytest.approx(evaluated["differences"]["real_id-real"][metric]["mean"], abs=2e-6)


def test_recomputed_from_the_stored_predictions_alone(evaluated, tmp_path):
    copy = tmp_path / "elsewhere.csv"
    lines = PREDICTIONS.read_text().splitlines()
    copy.write_text("\n".join(lines) + "\n")
    found = recompute(copy, Evaluate())
    for part in ("setups", "differences", "scores", "classes", "absent", "predictions_sha256", "order"):
        assert found[part] == evaluated[part]
    text = render_table(found)
    mean = evaluated["setups"]["real_id"]["accuracy_shifted"]["mean"]
    assert f"{100 * mean:.1f} [" in text and "real_id_negatives-real_id (points)" in text
    # the order of pictures in the file means nothing
    body = lines[1:]
    shuffled = [line for setup in found["order"] for line in reversed([b for b in body if b.startswith(f"{setup},")])]
    copy.write_text("\n".join([lines[0], *shuffled]) + "\n")
    assert recompute(copy)["differences"] == evaluated["differences"]


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
    assert area == pytest.approx(evaluated["setups"]["real"]["near_ood_auroc"]["mean"], abs=0.02)
    confusion = list(csv.DictReader(open("reports/plots/confusion/real.csv")))
    assert len(confusion) == 2 * 24 and set(confusion[0]) == {"seed", "actual", "predicted"}
    embedding = list(csv.DictReader(open("reports/plots/embedding.csv")))
    assert {r["part"] for r in embedding} == {"test", "near_test", "far_test"} and {r["seed"] for r in embedding} == {
        "0"
    }


def test_k_is_chosen_without_the_test_part(evaluated):
    """Whatever the test pictures look like, the choice stays; with other OOD-validation features it moves."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 8))
    detectors = scoring.fit(features, np.arange(40) % 2, rng.normal(size=(2, 8)), np.zeros(2))

    def part(n, spread=1.0):
        return Embedded(rng.normal(size=(n, 8)) * spread, np.zeros((n, 2)))

    seen = {"val": part(30), "near_val": part(30), "far_val": part(30)}
    labels = np.arange(30) % 2
    k, choice = choose_k([1, 5, 10], detectors, seen, labels)
    assert choice["from"] == "mean AUROC of near_val and far_val against val"
    assert choice["tried"][str(k)] == max(choice["tried"].values())
    again = choose_k(
        [1, 5, 10], detectors, seen | {"test": part(30), "near_test": part(30, 9), "far_test": part(5)}, labels
    )
    assert again == (k, choice)
    assert choose_k([400], detectors, seen, labels)[0] == 40
    _, alone = choose_k([1, 5], detectors, {"val": seen["val"]}, labels)
    assert "kNN accuracy on val" in alone["from"]


def test_every_choice_is_recorded(evaluated):
    for setup in evaluated["order"]:
        for seed in ("0", "1"):
            assert evaluated["choices"][setup][seed]["k"] in (1, 3)


def test_scores_are_fitted_to_real_training_pictures_only(evaluated):
    """Setups that train on more pictures get no larger kNN bank: a test picture's score uses the real ones alone."""
    assert not [r for r in _rows() if r["part"] == "train"]
    assert evaluated["data"]["parts"]["train"]["pictures"] == 24


def test_without_ood_and_shifted_the_measures_are_absent_and_say_why(project, tmp_path, monkeypatch):
    small = Project(
        tmp_path, ood=False, setups=("real", "real_id"), seeds=(0,), counts=(("train", 3), ("val", 3), ("test", 3))
    ).make()
    monkeypatch.chdir(tmp_path)
    summary = small.evaluate()
    assert set(summary["absent"]) == {
        "accuracy_shifted",
        *(f"{k}_ood_{m}" for k in ("near", "far") for m in ("auroc", "aupr_in", "aupr_out", "fpr95")),
    }
    assert "ood.holdout_classes" in summary["absent"]["near_ood_auroc"]
    assert not set(summary["absent"]) & set(summary["setups"]["real"])
    assert Path("reports/plots/roc_near.csv").read_text() == "fpr,real,real_id\n"
    # one seed: no interval, and the sentence says so
    assert summary["setups"]["real"]["accuracy_test"]["low"] is None
    assert summary["differences"]["real_id-real"]["accuracy_test"]["high"] is None
    assert [s["effect"] for s in summary["verdict"]] == ["one seed"]
    assert "one seed, so no interval" in summary["verdict"][0]["text"]
    assert "Not measured" in small.report()


def _difference(low, mean, high):
    return {
        "mean": mean,
        "low": low,
        "high": high,
        "values": [mean] * 3,
        "bootstrap": {"low": low, "high": high, "clusters": 8, "of": "unseen variants"},
    }


def test_verdict_sentences_follow_the_numbers():
    differences = {
        "b-a": {
            "accuracy_test": _difference(-0.01, 0.02, 0.05),
            "accuracy_shifted": _difference(0.021, 0.06, 0.1),
            "near_ood_auroc": _difference(-0.09, -0.05, -0.012),
        }
    }
    found = verdict(differences, {("b", "a"): ("ID augmentations", "positive")}, 0.95)
    assert [(s["metric"], s["effect"], s["main"]) for s in found] == [
        ("accuracy_shifted", "helps", True),
        ("accuracy_test", "no evidence", False),
        ("near_ood_auroc", "hurts", False),
    ]
    assert found[0]["text"] == (
        "ID augmentations changed shifted accuracy by +6.0 points (95 % CI +2.1 to +10.0, paired "
        "over 3 seeds): helps. Resampling the 8 unseen variants: +2.1 to +10.0."
    )
    negatives = verdict(differences, {("b", "a"): ("Near-OOD negatives", "negative")}, 0.95)
    assert negatives[0]["metric"] == "near_ood_auroc" and negatives[0]["main"]
    assert "−5.0 points (95 % CI −9.0 to −1.2" in negatives[0]["text"]


def test_changes_name_what_a_setup_added(evaluated):
    said = {(s["setup"], s["base"]): s["change"] for s in evaluated["verdict"]}
    assert said == {("real_id", "real"): "ID augmentations", ("real_id_negatives", "real_id"): "Near-OOD negatives"}


def test_a_control_is_compared_with_the_setup_it_extends(project):
    from partsynth.records.manifest import read_manifest
    from partsynth.records.rows import SelectedRecord

    read = {s: read_manifest(Path(f"data/selected/{s}.csv"), SelectedRecord) for s in ("real", "real_id")}
    control = read["real"] + [
        r.model_copy(update={"path": f"x/{i}.png", "origin": "other", "role": "negative"})
        for i, r in enumerate(read["real"][:3])
    ]
    found = changes(["real", "real_id", "control", "same"], read | {"control": control, "same": read["real_id"]})
    assert found["control", "real"] == ("other negatives", "negative")
    assert found["same", "real_id"][0] == "same over real_id (no picture was left to add)"


def test_setups_that_differ_by_their_training_are_named_by_it():
    from partsynth.records.rows import SelectedRecord

    def rows(origin, role, count=3, rule="accepted"):
        facts = {"sha256": "0", "class_name": "gear", "source": "s", "group": "g", "role": role, "rule": rule}
        return [SelectedRecord(path=f"{origin}/{i}.png", origin=origin, **facts) for i in range(count)]

    real, synthetic = rows("real", "positive"), rows("id", "positive")
    band = [*real, *synthetic, *rows("near_ood", "negative", 2, "band")]
    lottery = [*real, *synthetic, *rows("near_ood", "negative", 3, "random")[1:]]
    tables = {
        "real": real,
        "rand": real,
        "real_id": [*real, *synthetic],
        "band": band,
        "weak": band,
        "strong": band,
        "own": band,
        "random": lottery,
        "others": [*real, *synthetic, *rows("real", "negative")],
    }
    shared = {"negative_weight": 1.0, "negative_scope": "all", "augment": "standard", "steps": 5}
    trained = dict.fromkeys(tables, shared) | {
        "rand": shared | {"augment": "randaugment"},
        "weak": shared | {"negative_weight": 0.3},
        "strong": shared | {"negative_weight": 3.0},
        "own": shared | {"negative_scope": "own"},
        "others": shared | {"negative_scope": "other"},
    }
    assert changes(list(tables), tables, trained) == {
        ("rand", "real"): ("RandAugment", ""),
        ("real_id", "real"): ("ID augmentations", "positive"),
        ("band", "real_id"): ("Near-OOD negatives", "negative"),
        ("weak", "band"): ("negative_weight 0.3", "negative"),
        ("strong", "band"): ("negative_weight 3.0", "negative"),
        ("own", "band"): ("negative_scope own", "negative"),
        ("random", "real_id"): ("Random near_ood negatives", "negative"),
        ("others", "real_id"): ("Real negatives", "negative"),
    }
    same = changes(["real", "again"], {"real": real, "again": real}, trained | {"again": shared})
    assert same["again", "real"][0] == "again over real (no picture was left to add)"


def test_faults_are_named(project, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(project.root, copy)
    monkeypatch.chdir(copy)
    some = project.but(root=copy, setups=("real",), seeds=(0,))
    with pytest.raises(UserError, match="models/supcon/real/7, models/supcon/gone/0, models/supcon/gone/7"):
        some.but(setups=("real", "gone"), seeds=(0, 7)).evaluate()
    picture = next(Path("data/real/test").rglob("*.png"))
    before = picture.read_bytes()
    picture.write_bytes(before + b"x")
    with pytest.raises(UserError, match="differs from its manifest"):
        some.evaluate()
    picture.write_bytes(before)
    config = Path("models/supcon/real/0/config.json")
    config.write_text(config.read_text().replace("gear_t6", "pump_t6"))
    with pytest.raises(UserError, match="pump_t6.*training pictures show.*gear_t6"):
        some.evaluate()
    with pytest.raises(UserError, match="has no columns class_name"):
        read_predictions(
            io.StringIO(
                "setup,seed,part,path,group,predicted,knn_predicted,confidence," + ",".join(scoring.SCORES) + "\n"
            )
        )
