"""An export of a small evaluated project: its predictions are the report's, its thresholds hold, it stands alone."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from helpers import cli, exports

from partsynth.errors import UserError
from partsynth.evaluation.predictions import read_predictions
from partsynth.evaluation.results import read_summary
from partsynth.serving.choose import choose_model
from partsynth.serving.export import Inputs, export
from partsynth.serving.thresholds import rate_of
from partsynth.store.hashing import sha256_file
from partsynth.store.layout import Layout
from partsynth.tracking import store
from partsynth.tracking.registry import register_model

pytestmark = pytest.mark.slow

ALONE = """
import sys
sys.modules["torch"] = sys.modules["partsynth"] = None  # neither can be imported
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
answers = model.predict(pd.DataFrame({"path": sys.argv[2].split(",")}))
answers.to_json(sys.argv[3], orient="records")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project") / "p"
    return root, exports.evaluated(root)


@pytest.fixture(scope="module")
def exported(project):
    root, _ = project
    done = export(Inputs(root=root, out=root / "exported", false_reject=0.1, coverage=0.9))
    return root / "exported", done


@pytest.fixture(scope="module")
def answers(project, exported):
    """What the export says of the evaluation's images, from a process without torch and partsynth, beside its table."""
    root, (out, _) = project[0], exported
    table = read_predictions(Layout(root).predictions)
    table = table[table["part"].isin(["val", "test", "near_test", "far_test"])].reset_index(drop=True)
    environment = os.environ | {"PYTHONPATH": ""}
    subprocess.run(
        [sys.executable, "-c", ALONE, str(out / "pyfunc"), ",".join(table["path"]), str(root / "answers.json")],
        cwd=root,
        env=environment,
        check=True,
        capture_output=True,
    )
    found = pd.read_json(root / "answers.json").add_prefix("export_")
    return pd.concat([table, found], axis=1)


def test_its_accuracy_is_the_reports(project, answers):
    test = answers[answers["part"] == "test"]
    accuracy = (test["export_class"] == test["class_name"]).mean()
    report = read_summary(Layout(project[0]).summary).setups["real"]["accuracy_test"].mean
    assert accuracy == pytest.approx(report, abs=1e-6)
    assert (answers["export_class"] == answers["predicted"]).all()
    assert (answers["export_ood_score"] - answers["knn"]).abs().max() < 1e-4


def test_what_it_calls_unknown_is_what_the_predictions_give_at_its_threshold(exported, answers):
    threshold = exported[1].about["unknown"]["threshold"]
    for part, rows in answers.groupby("part"):
        assert rows["export_unknown"].mean() == (rows["knn"] > threshold).mean(), part
    assert 0 < answers["export_unknown"].mean() < 1


def test_the_false_reject_rate_holds_on_test_images(exported, answers):
    stated = exported[1].about["unknown"]["validation_images"]
    val, test = (answers[answers["part"] == part]["export_unknown"] for part in ("val", "test"))
    assert (stated["count"], stated["n"]) == (val.sum(), len(val)) and stated["count"] / stated["n"] <= 0.1
    again = rate_of(stated["count"], stated["n"])
    assert (stated["low"], stated["high"]) == (again.low, again.high)
    assert stated["low"] <= test.mean() <= stated["high"]


def test_prediction_sets_cover_what_they_say(exported, answers):
    stated = exported[1].about["prediction_set"]["validation_images"]
    covered = answers.apply(lambda row: row["class_name"] in row["export_prediction_set"], axis=1)
    assert covered[answers["part"] == "val"].sum() == stated["count"] >= 0.9 * stated["n"]
    assert covered[answers["part"] == "test"].mean() > 0.75


def test_everything_is_stated_with_its_hash(project, exported):
    root, run_id = project
    out, done = exported
    about = json.loads((out / "export.json").read_text())
    assert about == done.about
    assert about["sha256"]["model.onnx"] == sha256_file(out / "model.onnx")
    assert about["sha256"]["encoder.safetensors"] == sha256_file(root / "models/supcon/real/0/encoder.safetensors")
    assert about["data"] == {"data/real": "0" * 32}
    assert about["model"]["run_id"] == run_id and about["versions"]["onnxruntime"]
    assert about["agreement"] < 1e-4
    assert str(root) not in (out / "pyfunc/MLmodel").read_text()
    assert sorted(p.name for p in out.iterdir()) == ["drift.json", "drift.onnx", "export.json", "model.onnx", "pyfunc"]
    told = "\n".join(done.lines(out))
    assert "ms per image on one core" in told and " MB" in told and "no model is registered as @champion" in told


def test_mlflow_keeps_it_as_a_model_of_the_run_once(project, exported, tmp_path):
    root, run_id = project
    model_id = exported[1].about["model"]["logged_model"]
    again = export(Inputs(root=root, out=tmp_path / "again", false_reject=0.1, coverage=0.9))
    assert again.about["model"]["logged_model"] == model_id
    run = store.client(root).get_run(run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [model_id]
    logged = store.client(root).get_logged_model(model_id)
    assert logged.status == "READY" and logged.params["score"] == "knn"
    image = (root / "data/real/test/gear_t6/000.png").read_bytes()
    row = pd.DataFrame({"image": [base64.b64encode(image).decode()]})
    answer = store.import_mlflow().pyfunc.load_model(logged.artifact_location).predict(row)
    assert answer["class"][0].startswith(("gear", "flange")) and len(answer["nearest"][0]) == 5


def test_the_registered_model_goes_first_and_others_are_named(project, monkeypatch):
    root, run_id = project
    assert "no model is registered" in choose_model(root).why
    assert choose_model(root, run=run_id).model.setup == "real"
    with pytest.raises(UserError, match="no alias 'station': partsynth register gives one"):
        choose_model(root, alias="station")
    register_model(root, run_id, "card", "champion")
    assert choose_model(root).why == "registered model @champion"
    with pytest.raises(UserError, match="no alias 'station'; there are champion"):
        choose_model(root, alias="station")
    with pytest.raises(UserError, match="no MLflow run"):
        choose_model(root, run="nobody")


def test_a_run_whose_model_is_elsewhere_is_told(project):
    from helpers import runs

    root, _ = project
    with runs.start(root, "e" * 64, seed=7) as run:
        pass
    with pytest.raises(UserError, match=r"is not in .*models/supcon: check out its commit"):
        choose_model(root, run=run.run_id)


def test_faults_are_told_and_leave_nothing(project, exported, tmp_path, monkeypatch):
    root, _ = project
    monkeypatch.chdir(root)
    code, _, told = cli.run("export", "--out", "exported")
    assert code == 1 and "exported exists: name a new folder" in told
    code, _, told = cli.run("export", "--out", str(tmp_path / "new"), "--false-reject", "5")
    assert code == 1 and "--false-reject is 5.0" in told
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, _, told = cli.run("export", "--out", str(tmp_path / "new"))
    assert code == 1 and "onnx is not installed: install partsynth with its extra serve" in told
    monkeypatch.delitem(sys.modules, "onnx")
    monkeypatch.setattr("partsynth.serving.export.latency", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(Inputs(root=root, out=tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []


def test_without_a_trained_model_there_is_nothing_to_export(tmp_path):
    with pytest.raises(UserError, match="no trained model in"):
        export(Inputs(root=tmp_path, out=tmp_path / "out"))


@pytest.mark.parametrize(("named", "score"), [("auto", "knn"), ("mahalanobis", "mahalanobis"), ("vim", "vim")])
def test_the_score_is_the_evaluations_headline_score(project, tmp_path, named, score):
    root, _ = project
    params = root / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("k: [1, 3]", f"k: [1, 3], headline_score: {named}"))
    try:
        about = export(Inputs(root=root, out=tmp_path / "out")).about
    finally:
        params.write_text(before)
    table = read_predictions(Layout(root).predictions)
    values = table[table["part"] == "val"][score]
    assert about["unknown"]["score"] == score and about["agreement"] < 1e-4
    assert about["unknown"]["validation_images"]["count"] == (values > about["unknown"]["threshold"]).sum()
