"""The chosen model in MLflow's registry, of a small project with real runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import small_project

from partsynth.audit.checkout import checkout_run
from partsynth.errors import UserError
from partsynth.evaluation import champion
from partsynth.evaluation.results import EvaluatedRun, Interval, Summary
from partsynth.records.card import DataCard
from partsynth.store.files import write_json
from partsynth.store.hashing import sha256_file
from partsynth.store.layout import Layout
from partsynth.tracking import store
from partsynth.tracking.query import get_run, read_artifact
from partsynth.tracking.store import MODEL
from partsynth.tracking.views import RunView

FIGURES = {"accuracy_test": 0.625, "accuracy_shifted": 0.5, "ece_test": 0.1, "unknown": 1.0}  # two are not for cards


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    return small_project.finished(tmp_path_factory.getbasetemp())


def model(setup: str, seed: int, accuracy: float) -> champion.Trained:
    return champion.Trained(Path(setup, str(seed)), setup, seed, f"{setup}{seed}", accuracy)


def test_the_setup_is_chosen_by_its_mean_and_then_its_best_seed():
    models = [model("a", 0, 0.9), model("a", 1, 0.5), model("b", 0, 0.7), model("b", 1, 0.8), model("b", 2, 0.8)]
    assert champion.choose(models) == models[3]
    assert champion.choose([model("a", 0, 0.5), model("b", 0, 0.5)]).setup == "a"


def test_the_chosen_model_is_registered_with_card_and_digests(project, tmp_path):
    root = small_project.copy(project, tmp_path / "copy")
    folder = root / "models/supcon/real_id/0"
    digests = {"encoder.safetensors": sha256_file(folder / "encoder.safetensors")}
    summary = Summary(
        setups={"real_id": {name: Interval(mean=v, values=[v]) for name, v in FIGURES.items()}},
        differences=[],
        scores={},
        classes={},
        absent={},
        seeds={"real_id": [0]},
        order=["real_id"],
        metrics=[],
        confidence=0.95,
        verdict=[],
        runs=[EvaluatedRun(setup="real_id", seed=0, config={}, sha256=digests)],
    ).dump()
    write_json(Layout(root).summary, summary)
    run = get_run(root, "real_id-seed0")
    told = champion.register(root)
    assert run.run_id in told and "@champion" in told and "of 3 models" in told
    stored = store.client(root).get_model_version_by_alias(MODEL, "champion")
    assert stored.run_id == run.run_id and stored.tags["metric.accuracy_test"] == "0.625"
    for item in run.inputs:
        assert stored.tags[f"data.{item.path}"] == item.digest
        assert f"`{item.path}` ({item.context}): `{item.digest}`" in stored.description
    assert "- accuracy, test: 0.625" in stored.description and "unknown" not in stored.description
    assert "- accuracy, shifted (other wear, light, angles): 0.500" in stored.description
    assert "ECE" not in stored.description
    assert read_artifact(root, run.run_id, "model_card.md").decode() == stored.description
    assert checkout_run(root, "champion", tmp_path / "out").faults == []

    summary["runs"][0]["sha256"]["encoder.safetensors"] = "0" * 64  # figures of other weights are not this model's
    write_json(Layout(root).summary, summary)
    other = get_run(root, "real-seed0")
    assert "named by its user" in champion.register(root, "real-seed0", "baseline")
    assert get_run(root, "baseline").run_id == other.run_id
    assert "no evaluation of these weights" in (
        store.client(root).get_model_version_by_alias(MODEL, "baseline").description
    )
    assert champion.results(root, "real_id", 0) == {}
    assert json.loads((folder / "run.json").read_text())["run_id"] == run.run_id


def test_nothing_to_choose_from_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="no trained model"):
        champion.register(tmp_path)


def test_the_card_names_the_weights_that_an_encoder_began_from() -> None:
    params = {"train.backbone": "timm", "train.model": "vit_tiny", "train.trainable": "none"}
    weights = {"weights.source": "hub timm/vit_tiny", "weights.sha256": "ab" * 32, "weights.licence": "apache-2.0"}
    run = RunView(
        run_id="1",
        name="real-seed0",
        status="FINISHED",
        experiment="x",
        start_time=0,
        end_time=None,
        artifact_uri="",
        tags={},
        params={**params, **weights},
        metrics={},
    )
    text = champion.card(run, "named", {}, "champion", DataCard(licence="CC0-1.0"))
    assert (
        f"Encoder (timm vit_tiny, as it was stored), begun from the weights hub timm/vit_tiny (sha256 `{'ab' * 32}`"
        in text
    )
    assert "licence apache-2.0" in text and "- licence: CC0-1.0\n- purpose: not stated in data/card.yaml" in text
