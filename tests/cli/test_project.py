"""Commands on a project: what they print."""

from __future__ import annotations

import json
import os
from pathlib import Path

from helpers.cli import run

from partsynth.config.params import Params


def test_params_explains_every_key() -> None:
    code, out, _ = run("params")
    assert code == 0
    for section, field in Params.model_fields.items():
        assert section in out
        kind = field.annotation
        for name in getattr(kind, "model_fields", {}):
            assert name in out, f"{section}.{name}"
    assert "strength = (required)  (number 0 to 1, or list of: number 0 to 1, or auto)" in out
    assert "`strength` is of the noise schedule: 0 = the VAE's round trip alone" in " ".join(out.split())
    assert "one of warn, drop, fail" in out
    code, out, _ = run("params", "train")
    assert "temperature = 0.1" in out and "ingest" not in out


def test_summary_prints_setups_differences_and_where_to_look(tmp_path: Path) -> None:
    figures = {"mean": 0.7123, "low": 0.68, "high": 0.74, "values": [0.7]}
    content = {
        "setups": {
            "real": {"accuracy_test": figures, "near_ood_auroc": {"mean": 0.7, "low": None, "high": None}},
            "real_id": {"accuracy_test": {**figures, "mean": 0.8}},
        },
        "differences": {"real_id-real": {"accuracy_test": {"mean": 0.0877, "low": -0.01, "high": 0.1}}},
        "scores": {},
        "classes": {},
        "absent": {"far_ood_auroc": "no far-OOD pictures"},
        "seeds": {"real": [0], "real_id": [0]},
        "order": ["real", "real_id"],
        "metrics": [
            {"name": "accuracy_test", "title": "accuracy, test", "more_is_better": True},
            {"name": "near_ood_auroc", "title": "AUROC, near-OOD", "more_is_better": True},
        ],
        "confidence": 0.95,
        "verdict": [
            {
                "setup": "real_id",
                "base": "real",
                "change": "ID augmentations",
                "metric": "accuracy_test",
                "effect": "no evidence",
                "text": "ID augmentations changed test accuracy by +8.8 points: no evidence",
                "main": True,
            }
        ],
    }
    (tmp_path / "s.json").write_text(json.dumps(content))
    code, out, _ = run("summary", "--metrics", os.fspath(tmp_path / "s.json"))
    assert code == 0
    for part in (
        "71.2",
        "[68.0, 74.0]",
        "70.0",
        "80.0",
        "+8.8",
        "[−1.0, +10.0]",
        "reports/index.html",
        "mlflow ui",
        "no evidence",
        "partsynth register",
        "Not measured, because no far-OOD pictures: far-OOD AUROC.",
    ):
        assert part in out
