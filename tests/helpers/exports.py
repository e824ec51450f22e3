"""What exports are made from: a small evaluated project whose model has a run, and a network without a project."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import torch

from helpers import runs
from helpers.evaluated_project import Project
from partsynth.core.backbones.narrow_resnet import MEMBER
from partsynth.core.contrastive import encoder
from partsynth.core.evaluation.ood import Known, known
from partsynth.core.images.views import Fixed
from partsynth.serving.network import Deployed
from partsynth.store.files import write_json
from partsynth.store.layout import Layout

CLASSES = ["bolt", "gear", "nut"]


def evaluated(root: Path) -> str:
    """A project with one evaluated model (setup real, seed 0), its run in the store, and params.yaml; the run's id."""
    before = Path.cwd()
    root.mkdir(parents=True)
    counts = (("train", 6), ("val", 12), ("test", 12))
    project = Project(root, setups=("real",), seeds=(0,), counts=counts).make()
    (root / "params.yaml").write_text("evaluate: {k: [1, 3]}\ningest: {source: folder}\n")
    folder = Layout(root).classifier("real", 0)
    config = json.loads((folder / "config.json").read_text())
    with runs.start(root, config["fingerprint"], seed=0) as run:
        run.log_model(folder)
    write_json(folder / "config.json", {**config, "metrics": {"val_accuracy": 0.75}})
    record = {"run_id": run.run_id, "inputs": [{"path": "data/real", "digest": "0" * 32}], "tags": {}}
    write_json(Layout(root).run_record("real", 0), record)
    os.chdir(root)
    try:
        project.evaluate()
    finally:
        os.chdir(before)
    return run.run_id


def bank(seed: int = 0, size: int = 16, test_views: Fixed = "none") -> tuple[encoder.Classifier, Known, np.ndarray]:
    """An untrained classifier of CLASSES, what scores are fitted to, and uint8 images (24, size, size, 3)."""
    model = encoder.Classifier(
        encoder.build(MEMBER, {"width": 8, "blocks": [1, 1]}, 8, seed), len(CLASSES), size, test_views
    )
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (24, size, size, 3), dtype=np.uint8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.nn.init.normal_(model.classifier.weight)
        torch.nn.init.normal_(model.classifier.bias)
    features, _ = encoder.embed(model, images)
    weight, bias = (p.detach().double().numpy() for p in (model.classifier.weight, model.classifier.bias))
    other = encoder.embed(model, rng.integers(0, 256, (9, size, size, 3), dtype=np.uint8))[0].double().numpy()
    held_out = other, np.arange(9) % 3
    return model.eval(), known(features.double().numpy(), np.arange(24) % 3, weight, bias, 2, held_out=held_out), images


def network(threshold: float = 0.05, least: float = 0.1, test_views: Fixed = "none") -> Deployed:
    model, fitted, _ = bank(test_views=test_views)
    return Deployed(model, fitted, "knn", 1.5, threshold, least).eval()


def metadata(threshold: float = 0.05) -> dict:
    training = [{"path": f"data/real/train/{i}.png", "sha256": f"{i:064}", "class": CLASSES[i % 3]} for i in range(24)]
    return {"classes": CLASSES, "training": training, "unmasked": "whole", "threshold": threshold}
