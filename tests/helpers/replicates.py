"""Parameters of a small benchmark, and folders of replicates as they are when all stages have run."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from partsynth.benchmark import plan
from partsynth.benchmark.plan import SECONDS, Replicate
from partsynth.benchmark.report import report
from partsynth.config.evaluation import Evaluate
from partsynth.config.load import load_all
from partsynth.config.params import Params
from partsynth.evaluation.predictions import Prediction, read_predictions, to_csv
from partsynth.evaluation.results import Data, PartSize
from partsynth.evaluation.summary import summarise
from partsynth.seams import SCORES
from partsynth.store.files import write_json, write_text_atomic
from partsynth.store.layout import Layout

SETUPS: dict[str, Any] = {
    "real": {"adds": "Photographs"},
    "real_id": {"adds": "ID augmentations", "onto": "real", "set": "id"},
    "real_neg": {"adds": "Band negatives", "onto": "real_id", "set": "near_ood"},
    "real_vae": {
        "adds": "VAE round trips",
        "kind": "control",
        "onto": "real",
        "set": "vae",
        "against": ["real", "real_id"],
    },
}
VARIED = {
    "adds": "Lambda 3",
    "kind": "ablation",
    "onto": "real_id",
    "set": "near_ood",
    "against": ["real_neg", "real_id"],
}
SMALL: dict[str, Any] = {
    "render": {"size": 32},
    "ingest": {"path": "data/raw"},
    "sets": {name: {"strength": 0.3} for name in ("id", "near_ood", "vae")},
    "select": {
        "real": {"rule": "all"},
        "real_id": {},
        "real_neg": {"role": "negative", "rule": "band"},
        "real_vae": {"rule": "all"},
    },
    "matrix": {"setups": ["real"], "seeds": [0]},
    "evaluate": {"k": [1]},
    "benchmark": {
        "seeds": [5, 3, 9],
        "setups": SETUPS,
        "replicates": {"main": 3, "control": 2, "ablation": 0},
        "few_shot": {"shots": [1, 4], "setups": ["real", "real_id"], "replicates": 2},
        "quick": {"setups": ["real", "real_id"], "replicates": 2},
        "targets": [
            {"setup": "real_id", "against": "real", "measure": "accuracy_shifted", "mean": -1.0, "low": -9.0},
            {"setup": "real_id", "against": "real", "measure": "accuracy_test", "mean": -1.0, "low": 0.99},
            {"setup": "real_vae", "against": "real_id", "measure": "accuracy_test", "mean": 1.01},
        ],
    },
}


def loaded(tmp_path: Path, **changes: object) -> Params:
    raw = json.loads(json.dumps(SMALL))
    raw["benchmark"] |= changes
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return load_all(path)


PARTS = {
    "val": 6,
    "test": 12,
    "shifted": 12,
    "near_val": 6,
    "near_test": 10,
    "far_test": 10,
    "set_near_ood": 6,
    "set_id": 6,
}


def predicted(replicate: Replicate, same_test: bool) -> str:
    """Predictions as `evaluate` writes them: setups of growing skill, test images the same in all or not."""
    rows = []
    for (skill, setup), seed in product(enumerate(replicate.setups), replicate.seeds):
        rng = np.random.default_rng([seed, replicate.shots or 0, skill])
        for part, count in PARTS.items():
            if part.startswith("set_") and replicate.shots:
                continue
            for i in range(count if same_test else count - replicate.seed % 3):
                kind, strange = "ab"[i % 2], part.startswith(("near", "far"))
                own = "" if same_test and part.endswith("test") else f"{replicate.seed}-"
                right = rng.random() < 0.5 + 0.1 * skill
                name = f"variant{i % 5}" if strange else kind
                rows.append(
                    Prediction(
                        setup=setup,
                        seed=seed,
                        part=part,
                        path=f"data/{part}/{own}{i}.png",
                        class_name=name,
                        group=f"{own}{i // 2}",
                        predicted=kind if right else "ba"[i % 2],
                        knn_predicted=kind,
                        confidence=rng.uniform(0.5, 1),
                        scores={score: rng.normal(strange * (1 + skill)) for score in SCORES},
                    )
                )
    return to_csv(rows)


def finished(work: Path, replicates: list[Replicate], same_test: bool = True) -> None:
    """Folders as they are when all stages have run."""
    for replicate in replicates:
        folder = work / replicate.folder
        text = predicted(replicate, same_test)
        layout = Layout(folder)
        write_text_atomic(layout.predictions, text)
        data = Data(parts={"train": PartSize(pictures=32, classes=2, groups=32)}, manifests={}, training={})
        summary = summarise(read_predictions(layout.predictions), Evaluate(), None)
        write_json(layout.summary, summary.model_copy(update={"data": data, "predictions_sha256": ""}).dump())
        for setup, seed in product(replicate.setups, replicate.seeds):
            run = f"{replicate.folder} {setup}" + ("" if seed == replicate.seed else f" {seed}")
            write_json(layout.classifier(setup, seed) / "run.json", {"run_id": run})
        write_json(folder / SECONDS, {"stages": {"train@real-5": 30.0}, "total": 60.0, "git_commit": "c0"})
        for name in ("params.yaml", "dvc.yaml", "dvc.lock"):
            write_text_atomic(folder / name, name)


def small_report(root: Path) -> Path:
    """All replicates of the small benchmark, reported as ``root``/out/small.*; returns that folder."""
    params = loaded(root)
    replicates = plan.plan(params, quick=False)
    finished(root / "work", replicates)
    return report(params, replicates, root / "work", root / "out", "small", "partsynth benchmark").parent
