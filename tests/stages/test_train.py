"""Trainings of seconds on drawn shapes: files, resume, faults, equality of chunks and processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors import safe_open

from partsynth.config.training import Train
from partsynth.core.contrastive import encoder
from partsynth.core.images import views
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import RealRecord, SelectedRecord
from partsynth.stages import train
from partsynth.stages.train import _read_tables
from partsynth.store.png import write_png
from partsynth.tracking import store
from partsynth.tracking.query import find_runs, read_artifact
from partsynth.training.devices import make_accelerator
from partsynth.training.fit import fit
from partsynth.training.images import Pictures, load_pictures
from partsynth.training.linear_probe import _sample_weights
from partsynth.training.result import Fitted, NonFinite
from partsynth.training.schedule import schedule

SIZE, CLASSES = 16, ("bar", "disc", "square")
TINY = Train(
    width=8,
    blocks=[1, 1],
    embedding=8,
    size=SIZE,
    steps=12,
    anchors=12,
    negatives=4,
    eval_every=4,
    classifier_steps=50,
    device="cpu",
    learning_rate=5e-3,
)


def shape(kind: str, rng: np.random.Generator) -> np.ndarray:
    image = Image.new("RGB", (SIZE, SIZE), tuple(rng.integers(20, 70, 3).tolist()))
    draw, x, y = ImageDraw.Draw(image), *rng.integers(-1, 2, 2).tolist()
    ink = tuple(rng.integers(140, 240, 3).tolist())
    box = {"bar": (2, 6, 13, 9), "disc": (3, 3, 12, 12), "square": (5, 5, 10, 10)}[kind]
    (draw.ellipse if kind == "disc" else draw.rectangle)((box[0] + x, box[1] + y, box[2] + x, box[3] + y), fill=ink)
    return np.asarray(image)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """MLflow's tables, which take seconds to make."""
    folder = tmp_path_factory.mktemp("mlflow")
    store.client(folder).search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def project(tmp_path, empty_database):
    """A project folder with data/real, two augmentation sets and the three setups' tables."""
    shutil.copy(empty_database, tmp_path)
    rng, real, rows = np.random.default_rng(0), [], []
    for split, count in (("train", 5), ("val", 3)):
        for name in CLASSES:
            for i in range(count):
                path = f"data/real/{split}/{name}/{i}.png"
                sha = write_png(tmp_path / path, shape(name, rng))
                facts = {"path": path, "sha256": sha, "class_name": name, "group": f"{split}{name}{i}"}
                real.append(RealRecord(**facts, split=split, source="x", source_sha256="0"))
                if split == "train":
                    rows.append(SelectedRecord(**facts, role="positive", origin="real", source=path))
    write_manifest(tmp_path / "data/real/manifest.csv", real, RealRecord)
    originals = list(rows)
    write_manifest(tmp_path / "data/selected/real.csv", rows, SelectedRecord)
    for setup, origin, role in (("real_id", "id", "positive"), ("real_id_negatives", "near_ood", "negative")):
        for row in originals:
            path = row.path.replace("data/real/train", f"data/augmented/{origin}")
            sha = write_png(tmp_path / path, shape(row.class_name, rng))
            made = {"path": path, "sha256": sha, "role": role, "origin": origin}
            rows.append(row.model_copy(update=made))
        write_manifest(tmp_path / f"data/selected/{setup}.csv", rows, SelectedRecord)
    return tmp_path


def run(project: Path, setup: str = "real_id_negatives", params: Train = TINY, seed: int = 0, **kwargs):
    folders = project / f"data/selected/{setup}.csv", project / "data/real", project / f"models/supcon/{setup}/{seed}"
    return train.run(params, setup, seed, *folders, project, **kwargs), folders[2]


def pictures(project: Path, setup: str = "real_id_negatives") -> Pictures:
    rows, val = _read_tables(project / f"data/selected/{setup}.csv", project / "data/real")
    return load_pictures(rows, val, SIZE, project)


# --- the stage ------------------------------------------------------------------------------------------------------


def test_writes_the_model_and_a_run_and_skips_what_is_current(project, capsys):
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

    loaded, _ = encoder.load(out)
    features, logits = encoder.embed(loaded, pictures(project).val_images)
    assert features.shape == (9, 32) and logits.shape == (9, 3)

    before = (out / "run.json").read_bytes()
    capsys.readouterr()
    again, _ = run(project)
    assert "is current" in capsys.readouterr().out
    assert again == metrics and (out / "run.json").read_bytes() == before
    run(project, params=TINY.model_copy(update={"temperature": 0.2}))
    assert (out / "run.json").read_bytes() != before


def test_learns_and_saves_the_classifier(project):
    """Defect 13: the linear classifier was never saved. Here its file alone gives the accuracy that was logged."""
    metrics, out = run(project, "real", TINY.model_copy(update={"steps": 80, "eval_every": 40}))
    assert metrics["val_accuracy"] >= 0.75
    model, config = encoder.load(out)
    images = pictures(project, "real")
    predicted = encoder.embed(model, images.val_images)[1].argmax(1).numpy()
    assert (predicted == images.val_labels).mean() == pytest.approx(metrics["val_accuracy"])


def test_same_seed_same_bytes(project):
    _, out = run(project)
    before = [(out / n).read_bytes() for n in ("encoder.safetensors", "classifier.safetensors", "history.csv")]
    (out / "run.json").unlink()
    run(project)
    assert [(out / n).read_bytes() for n in ("encoder.safetensors", "classifier.safetensors", "history.csv")] == before
    other = run(project, seed=1)[1]
    assert (other / "encoder.safetensors").read_bytes() != before[0]


def test_an_interrupted_training_goes_on(project):
    _, out = run(project)
    expected = (out / "encoder.safetensors").read_bytes(), (out / "history.csv").read_bytes()
    (out / "run.json").unlink()

    def interrupt(measured):
        if measured.step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(project, on_measure=interrupt)
    steps = []
    run(project, on_measure=lambda m: steps.append(m.step))  # step 8 was measured but its checkpoint not yet written
    assert steps == [8, 12]
    assert ((out / "encoder.safetensors").read_bytes(), (out / "history.csv").read_bytes()) == expected


def test_a_checkpoint_of_other_inputs_is_not_taken_up(project):
    def interrupt(measured):
        if measured.step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(project, on_measure=interrupt)
    steps = []
    run(project, params=TINY.model_copy(update={"temperature": 0.2}), on_measure=lambda m: steps.append(m.step))
    assert steps == [4, 8, 12]


def test_every_setup_takes_equally_many_steps(project):
    """Defect 11."""
    taken = []
    for setup in ("real", "real_id", "real_id_negatives"):
        fitted = fit(pictures(project, setup), TINY, 0)
        taken.append([m.step for m in fitted.history])
    assert taken == [[4, 8, 12]] * 3


# --- faults ---------------------------------------------------------------------------------------------------------


def test_altered_and_missing_pictures_are_all_named(project):
    write_png(project / "data/real/train/bar/0.png", np.zeros((SIZE, SIZE, 3), np.uint8))
    (project / "data/augmented/id/disc/1.png").unlink()
    (project / "data/real/val/disc/0.png").write_bytes(b"no picture")
    with pytest.raises(UserError) as caught:
        run(project)
    told = str(caught.value)
    assert "3 pictures" in told and "train/bar/0.png differs" in told and "val/disc/0.png" in told
    assert "id/disc/1.png is in the manifest but missing" in told


def test_a_table_that_cannot_be_trained_on(project):
    path = project / "data/selected/real.csv"
    rows = [r for r in read_manifest(path, SelectedRecord) if r.class_name == "bar"]
    stranger = rows[0].model_copy(update={"path": "data/x.png", "class_name": "cone", "role": "neutral"})
    write_manifest(path, [*rows, stranger], SelectedRecord)
    with pytest.raises(UserError, match="(?s)neutral.*two classes, has bar.*cone"):
        run(project, "real")


def test_a_loss_that_is_no_number_stops_and_is_named(project, monkeypatch):
    monkeypatch.setattr("partsynth.training.fit.supcon_loss", lambda z, *_, **__: z.sum() * float("nan"))
    with pytest.raises(NonFinite, match="nan at step 1 of 12.*learning_rate"):
        run(project)
    (found,) = find_runs(project, live=False)
    assert found.status == "FAILED"


def test_collapse_is_said_at_the_end_and_tagged(project, capsys):
    stuck = TINY.model_copy(update={"learning_rate": 1e-9})
    _, out = run(project, "real", stuck)
    assert "WARNING" in (told := capsys.readouterr().out) and "collapse" in told
    assert "collapse" in json.loads((out / "config.json").read_text())["collapse"]
    assert "collapse" in find_runs(project, setup="real")[0].tags


def test_devices_and_precisions_that_are_not_there():
    if torch.cuda.is_available():
        pytest.skip("has CUDA")
    with pytest.raises(UserError, match="train.device is cuda"):
        make_accelerator(Train(device="cuda"))
    with pytest.raises(UserError, match="fp16 needs a CUDA device"):
        make_accelerator(Train(precision="fp16"))


def test_real_negatives_need_the_scope_other(project):
    path = project / "data/selected/real.csv"
    rows = read_manifest(path, SelectedRecord)
    write_manifest(path, rows + [r.model_copy(update={"role": "negative"}) for r in rows[::2]], SelectedRecord)
    with pytest.raises(UserError, match="negative_scope is all.*Set negative_scope: other"):
        run(project, "real")
    with pytest.raises(UserError, match="Set negative_scope: other"):
        fit(pictures(project, "real"), TINY, 0)
    assert not find_runs(project, live=False)
    metrics, _ = run(project, "real", TINY.model_copy(update={"negative_scope": "other"}))
    assert np.isfinite(metrics["loss"])
    made = pictures(project, "real")
    assert not made.is_negative[made.source].any()  # a picture goes back to the positive


@pytest.mark.parametrize("augment", ["standard", "randaugment"])
def test_views_of_a_kind_are_what_is_trained_on(project, monkeypatch, augment):
    kinds = set()
    real = views.augment
    monkeypatch.setattr(views, "augment", lambda *a, **k: kinds.add(k["kind"]) or real(*a, **k))
    metrics, out = run(project, "real", TINY.model_copy(update={"augment": augment}))
    assert kinds == {augment} and np.isfinite(metrics["loss"])
    assert json.loads((out / "config.json").read_text())["train"]["augment"] == augment


# --- exactness ------------------------------------------------------------------------------------------------------


def weights(fitted: Fitted) -> torch.Tensor:
    return torch.cat([p.flatten() for p in fitted.model.encoder.parameters()]).detach()


def test_chunks_give_the_plain_training(project):
    """Cached gradients: same losses and weights as the whole batch at once."""
    short = TINY.model_copy(update={"steps": 3, "eval_every": 1, "learning_rate": 1e-3})
    plain = fit(pictures(project), short, 0)
    cached = fit(pictures(project), short.model_copy(update={"chunk": 5}), 0)
    np.testing.assert_allclose([m.loss for m in cached.history], [m.loss for m in plain.history], rtol=1e-4)
    torch.testing.assert_close(weights(cached), weights(plain), rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [None, 5])
def test_two_processes_train_on_the_global_batch(project, tmp_path, chunk):
    """torchrun with two gloo processes (`accelerate launch --cpu` starts one): losses and weights of the global batch."""
    short = TINY.model_copy(update={"steps": 3, "eval_every": 1, "learning_rate": 1e-3, "chunk": chunk})
    (tmp_path / "params.json").write_text(short.model_dump_json())
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, __file__, str(project), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    one = fit(pictures(project), short, 0)
    for rank in range(2):
        told = json.loads((tmp_path / f"{rank}.json").read_text())
        assert told["processes"] == 2
        np.testing.assert_allclose(told["losses"], [m.loss for m in one.history], rtol=1e-4)
        torch.testing.assert_close(torch.tensor(told["weights"]), weights(one), rtol=0, atol=1e-3)
    assert (project / "models/supcon/real_id_negatives/0/run.json").is_file()  # written once, by the first process


def _process(project: Path, out: Path) -> None:
    params = Train.model_validate_json((out / "params.json").read_text())
    accelerator = make_accelerator(params)
    fitted = fit(pictures(project), params, 0, accelerator)
    told = {
        "processes": accelerator.num_processes,
        "losses": [m.loss for m in fitted.history],
        "weights": weights(fitted).tolist(),
    }
    (out / f"{accelerator.process_index}.json").write_text(json.dumps(told))
    run(project, params=params)
    accelerator.end_training()


def test_the_rate_warms_up_and_falls_to_nothing():
    rates = [schedule(step, 100, 0.1) for step in range(100)]
    assert rates[0] < 0.15 and rates[:11] == sorted(rates[:11]) and rates[10] == 1
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] < 0.01
    assert schedule(0, 10, 0) == 1 and np.isfinite(schedule(0, 1, 1.0))


def test_classifier_weights_share_out():
    facts = {"classes": ["a", "b"], "images": None, "source": None, "val_images": None, "val_labels": None}
    made = Pictures(
        **facts,
        labels=np.array([0, 0, 0, 1, 1]),
        is_negative=np.zeros(5, bool),
        is_synthetic=np.array([False, True, True, False, False]),
    )
    np.testing.assert_allclose(_sample_weights(made, np.arange(5), 0.4), [0.6, 0.2, 0.2, 0.5, 0.5])


if __name__ == "__main__":
    _process(Path(sys.argv[1]), Path(sys.argv[2]))
