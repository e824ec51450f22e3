"""The train stage on drawn shapes: files, the MLflow run, resume, faults, several processes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.shapes import CLASSES, SIZE, TINY, images_of, make_project, weights
from safetensors import safe_open

from partsynth.config.training import Train
from partsynth.core.contrastive import encoder
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import SelectedRecord
from partsynth.stages import train
from partsynth.store.png import write_png
from partsynth.tracking import store
from partsynth.tracking.query import find_runs, read_artifact
from partsynth.training import classifier
from partsynth.training.devices import make_accelerator
from partsynth.training.fit import fit
from partsynth.training.result import Measurement, NonFinite


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, which take seconds to make."""
    folder = tmp_path_factory.mktemp("mlflow")
    store.client(folder).search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def project(tmp_path: Path, empty_database: Path) -> Path:
    shutil.copy(empty_database, tmp_path)
    return make_project(tmp_path)


def run(
    project: Path, setup: str = "real_id_negatives", params: Train = TINY, seed: int = 0, **others: Any
) -> tuple[dict[str, float], Path]:
    out = project / f"models/supcon/{setup}/{seed}"
    inputs = train.Inputs(
        params=params,
        setup=setup,
        seed=seed,
        selected=project / f"data/selected/{setup}.csv",
        real=project / "data/real",
        out=out,
        root=project,
        **others,
    )
    return train.run(inputs), out


def interrupt(measured: Measurement) -> None:
    if measured.step == 8:
        raise KeyboardInterrupt


def test_writes_the_model_and_a_run_and_skips_what_is_current(project: Path, capsys) -> None:
    metrics, out = run(project)
    names = {p.name for p in out.iterdir()}
    assert names == {
        "encoder.safetensors",
        "classifier.safetensors",
        "config.json",
        "history.csv",
        "curves.png",
        "run.json",
    }
    config = json.loads((out / "config.json").read_text())
    assert config["classes"] == list(CLASSES) and config["size"] == SIZE and config["train"]["steps"] == 12
    assert config["train"]["augment"] == "standard"
    with safe_open(out / "encoder.safetensors", "np") as file:
        assert file.metadata()["fingerprint"] == config["fingerprint"]
    assert (out / "history.csv").read_text().splitlines()[0].startswith("step,loss,learning_rate,feature_variance")
    assert len((out / "history.csv").read_text().splitlines()) == 1 + 3
    assert not (project / ".work/train/real_id_negatives-0").exists()

    (found,) = find_runs(project, setup="real_id_negatives", seed=0)
    assert found.run_id == json.loads((out / "run.json").read_text())["run_id"] and found.status == "FINISHED"
    assert found.params["train.temperature"] == "0.1"
    assert found.metrics["final_val_accuracy"] == pytest.approx(metrics["val_accuracy"])
    assert {"loss", "learning_rate", "val_accuracy_knn", "feature_variance", "seconds"} <= set(found.metrics)
    assert {(i.name, i.context) for i in found.inputs} >= {
        ("real", "training"),
        ("id", "training"),
        ("near_ood", "negatives"),
        ("tokens", "tokens"),
    }
    model = read_artifact(project, found.run_id, "model/encoder.safetensors")
    assert model == (out / "encoder.safetensors").read_bytes()
    assert read_artifact(project, found.run_id, "plots/curves.png")

    loaded, _ = classifier.load(out)
    features, logits = encoder.embed(loaded, images_of(project).val_images)
    assert features.shape == (9, 32) and logits.shape == (9, 3)

    before = (out / "run.json").read_bytes()
    capsys.readouterr()
    again, _ = run(project)
    assert "is current" in capsys.readouterr().out
    assert again == metrics and (out / "run.json").read_bytes() == before
    run(project, params=TINY.model_copy(update={"temperature": 0.2}))
    assert (out / "run.json").read_bytes() != before


def test_learns_and_saves_the_classifier(project: Path) -> None:
    """Defect 13: the linear classifier was never saved. Here its file alone gives the accuracy that was logged."""
    metrics, out = run(project, "real", TINY.model_copy(update={"steps": 80, "eval_every": 40}))
    assert metrics["val_accuracy"] >= 0.75
    model, _ = classifier.load(out)
    images = images_of(project, "real")
    predicted = encoder.embed(model, images.val_images)[1].argmax(1).numpy()
    assert (predicted == images.val_labels).mean() == pytest.approx(metrics["val_accuracy"])


def test_same_seed_same_bytes(project: Path) -> None:
    _, out = run(project)
    before = [(out / n).read_bytes() for n in ("encoder.safetensors", "classifier.safetensors", "history.csv")]
    (out / "run.json").unlink()
    run(project)
    assert [(out / n).read_bytes() for n in ("encoder.safetensors", "classifier.safetensors", "history.csv")] == before
    other = run(project, seed=1)[1]
    assert (other / "encoder.safetensors").read_bytes() != before[0]


def test_an_interrupted_training_goes_on(project: Path) -> None:
    _, out = run(project)
    expected = (out / "encoder.safetensors").read_bytes(), (out / "history.csv").read_bytes()
    (out / "run.json").unlink()
    with pytest.raises(KeyboardInterrupt):
        run(project, on_measure=interrupt)
    steps: list[int] = []
    run(project, on_measure=lambda m: steps.append(m.step))  # step 8 was measured but its checkpoint not yet written
    assert steps == [8, 12]
    assert ((out / "encoder.safetensors").read_bytes(), (out / "history.csv").read_bytes()) == expected


def test_a_run_that_is_deleted_while_it_trains(project: Path) -> None:
    """In MLflow's UI, say: one sentence, nothing is lost, and the next run is whole."""

    def delete(measured: Measurement) -> None:
        if measured.step == 8:
            (live,) = find_runs(project)
            store.client(project).delete_run(live.run_id)

    with pytest.raises(UserError, match="was deleted while it was written to: run the stage again"):
        run(project, on_measure=delete)
    steps: list[int] = []
    _, out = run(project, on_measure=lambda m: steps.append(m.step))
    assert steps == [12]
    (live,) = find_runs(project)
    assert live.status == "FINISHED" and json.loads((out / "run.json").read_text())["run_id"] == live.run_id


@pytest.mark.slow
def test_a_server_that_goes_away_while_it_trains(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    command = ["mlflow", "server", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{project / 'mlflow.db'}",
        "--artifacts-destination",
        str(tmp_path / "a"),
    ]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for name in ("MAX_RETRIES", "BACKOFF_FACTOR"):  # its client waits for minutes
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", "1")

    def serve() -> subprocess.Popen:
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        for _ in range(2400):  # a loaded machine takes minutes
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{uri}/health", timeout=1).close()
                return server
            time.sleep(0.1)
        raise AssertionError("no server")

    def stop(server: subprocess.Popen) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()

    def leave(measured: Measurement) -> None:
        if measured.step == 8:
            stop(server)

    server = serve()
    try:
        with pytest.raises(UserError, match=rf"the MLflow server {uri} went away: .*it goes on from where it was"):
            run(project, on_measure=leave)
    finally:
        stop(server)
    out = project / "models/supcon/real_id_negatives/0"
    assert not (out / "run.json").exists()
    with pytest.raises(UserError, match=r"does not answer|went away"):
        run(project)
    server = serve()
    try:
        steps: list[int] = []
        run(project, on_measure=lambda m: steps.append(m.step))
        assert steps == [12]
        # the first one's process, this one, is alive: only of dead ones RUNNING is known to be wrong
        assert sorted(r.status for r in find_runs(project)) == ["FINISHED", "RUNNING"]
    finally:
        stop(server)


def test_a_checkpoint_of_other_inputs_is_not_taken_up(project: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(project, on_measure=interrupt)
    steps: list[int] = []
    run(project, params=TINY.model_copy(update={"temperature": 0.2}), on_measure=lambda m: steps.append(m.step))
    assert steps == [4, 8, 12]


# --- faults ---------------------------------------------------------------------------------------------------------


def test_altered_images_are_named(project: Path) -> None:
    write_png(project / "data/real/train/bar/0.png", np.zeros((SIZE, SIZE, 3), np.uint8))
    (project / "data/augmented/id/disc/1.png").unlink()
    with pytest.raises(UserError, match=r"(?s)2 images.*id/disc/1.png is in the manifest but.*train/bar/0.png differs"):
        run(project)
    assert not find_runs(project, live=False)


def test_a_table_that_cannot_be_trained_on(project: Path) -> None:
    path = project / "data/selected/real.csv"
    rows = [r for r in read_manifest(path, SelectedRecord) if r.class_name == "bar"]
    stranger = rows[0].model_copy(update={"path": "data/x.png", "class_name": "cone", "origin": "id"})
    write_manifest(path, [*rows, stranger], SelectedRecord)
    with pytest.raises(UserError, match=r"(?s)two classes, has bar.*without a real image: cone"):
        run(project, "real")
    write_manifest(path, [*rows, stranger.model_copy(update={"role": "neutral"})], SelectedRecord)
    with pytest.raises(UserError, match=r"role.*positive"):
        run(project, "real")


def test_a_loss_that_is_no_number_stops_and_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partsynth.training.fit.supcon_loss", lambda z, *_, **__: z.sum() * float("nan"))
    with pytest.raises(NonFinite, match=r"nan at step 1 of 12.*learning_rate"):
        run(project)
    (found,) = find_runs(project, live=False)
    assert found.status == "FAILED"


def test_collapse_is_said_at_the_end_and_tagged(project: Path, capsys) -> None:
    stuck = TINY.model_copy(update={"learning_rate": 1e-9})
    _, out = run(project, "real", stuck)
    assert "WARNING" in (told := capsys.readouterr().out) and "collapse" in told
    assert "collapse" in json.loads((out / "config.json").read_text())["collapse"]
    assert "collapse" in find_runs(project, setup="real")[0].tags


def test_real_negatives_need_the_scope_other(project: Path) -> None:
    path = project / "data/selected/real.csv"
    rows = read_manifest(path, SelectedRecord)
    write_manifest(path, rows + [r.model_copy(update={"role": "negative"}) for r in rows[::2]], SelectedRecord)
    with pytest.raises(UserError, match=r"negative_scope is all.*Set negative_scope: other"):
        run(project, "real")
    assert not find_runs(project, live=False)
    metrics, _ = run(project, "real", TINY.model_copy(update={"negative_scope": "other"}))
    assert np.isfinite(metrics["loss"])


# --- several processes ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_train_on_the_global_batch(project: Path, tmp_path: Path) -> None:
    """torchrun with two gloo processes (`accelerate launch --cpu` starts one): the global batch's weights, in one piece
    and in micro-batches."""
    short = TINY.model_copy(update={"steps": 3, "eval_every": 1, "learning_rate": 1e-3})
    trainings = [short, short.model_copy(update={"chunk": 5})]
    (tmp_path / "params.json").write_text(json.dumps([each.model_dump(mode="json") for each in trainings]))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, __file__, str(project), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    for number, params in enumerate(trainings):
        one = fit(images_of(project), params, 0)
        for rank in range(2):
            told = json.loads((tmp_path / f"{number}-{rank}.json").read_text())
            assert told["processes"] == 2 and told["written"]  # once, by the first process
            np.testing.assert_allclose(told["losses"], [m.loss for m in one.history], rtol=1e-4)
            torch.testing.assert_close(torch.tensor(told["weights"]), weights(one), rtol=0, atol=1e-3)
    assert len(find_runs(project, live=False)) == len(trainings)


def _process(project: Path, out: Path) -> None:
    for number, values in enumerate(json.loads((out / "params.json").read_text())):
        params = Train.model_validate(values)
        accelerator = make_accelerator(params)
        fitted = fit(images_of(project), params, 0, accelerator=accelerator)
        _, folder = run(project, params=params)
        accelerator.wait_for_everyone()
        told = {
            "processes": accelerator.num_processes,
            "losses": [m.loss for m in fitted.history],
            "weights": weights(fitted).tolist(),
            "written": (folder / "run.json").is_file(),
        }
        (out / f"{number}-{accelerator.process_index}.json").write_text(json.dumps(told))
    accelerator.end_training()


if __name__ == "__main__":
    _process(Path(sys.argv[1]), Path(sys.argv[2]))
