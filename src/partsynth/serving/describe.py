"""What is told of an export: export.json, the ONNX file's own metadata, and lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from partsynth.serving.choose import Chosen
from partsynth.serving.fitted import Fitted
from partsynth.store.files import read_json
from partsynth.store.hashing import sha256_file
from partsynth.store.layout import Layout

LIBRARIES = ("partsynth", "torch", "onnx", "onnxruntime", "mlflow", "numpy", "pillow", "crepes")


def describe(chosen: Chosen, config: dict[str, Any], fitted: Fitted, layout: Layout) -> dict[str, Any]:
    """export.json, but for what is known once the files are there."""
    model, sets, unknown = chosen.model, fitted.sets, fitted.unknown
    record = read_json(layout.run_record(model.setup, model.seed))
    tags = record.get("tags", {})
    return {
        "model": {
            "why": chosen.why,
            "setup": model.setup,
            "seed": model.seed,
            "run_id": chosen.run.run_id if chosen.run else model.run_id,
            "fingerprint": config["fingerprint"],
            "git_commit": tags.get("git_commit"),
            "size": config["size"],
            "classes": config["classes"],
        },
        "data": {item["path"]: item["digest"] for item in record.get("inputs", [])},  # DVC's md5
        "sha256": {
            **{path.name: sha256_file(path) for path in sorted(model.folder.glob("*.safetensors"))},
            layout.relative(layout.real_manifest): sha256_file(layout.real_manifest),
        },
        "calibration": {"temperature": fitted.temperature, "validation_images": unknown.images.n},
        "unknown": {
            "score": fitted.score,
            "k": fitted.choice.dump(),
            "threshold": unknown.threshold,
            "wanted": unknown.wanted,
            "validation_images": asdict(unknown.images),
            "validation_parts": asdict(unknown.parts),
        },
        "prediction_set": {
            "coverage": sets.coverage,
            "least_probability": sets.least,
            "validation_images": asdict(sets.covered),
            "mean_size": sets.mean_size,
        },
        "versions": {name: version(name) for name in LIBRARIES},
    }


def for_the_station(
    about: dict[str, Any], classes: list[str], training: list[dict[str, str]], unmasked: str
) -> dict[str, Any]:
    """What the ONNX file says of itself."""
    return {
        "classes": classes,
        "training": training,
        "unmasked": unmasked,
        "size": about["model"]["size"],
        "run_id": about["model"]["run_id"],
        "score": about["unknown"]["score"],
        "threshold": about["unknown"]["threshold"],
        "false_reject": about["unknown"]["wanted"],
        "coverage": about["prediction_set"]["coverage"],
        "least_probability": about["prediction_set"]["least_probability"],
        "temperature": about["calibration"]["temperature"],
    }


def told(about: dict[str, Any], out: Path, milliseconds: float, megabytes: float) -> Iterator[str]:
    """An export in a few lines for people, from its export.json."""
    model, unknown, sets = about["model"], about["unknown"], about["prediction_set"]
    images, parts = unknown["validation_images"], unknown["validation_parts"]
    yield f"{model['why']}: {model['setup']}, seed {model['seed']}, run {model['run_id']}"
    yield (
        f"unknown above {unknown['score']} {unknown['threshold']:.6g}: rejects {images['count']} of {images['n']} "
        f"validation images of known parts ({images['low']:.1%} to {images['high']:.1%}; {unknown['wanted']:.1%} "
        f"asked for), {parts['count']} of {parts['n']} parts by their mean score"
    )
    covered = sets["validation_images"]
    yield (
        f"prediction sets: coverage {sets['coverage']:.0%} asked for, {covered['count']} of {covered['n']} "
        f"validation images covered, {sets['mean_size']:.2f} classes on average"
    )
    if model["logged_model"]:
        yield f"MLflow: logged model {model['logged_model']} of the run"
    else:
        yield "MLflow: the store does not know the run, so no logged model was kept"
    drift = about["drift"]
    yield drift.get("missing") or (
        f"partsynth monitor tells drift from {drift['validation_images']} validation images, in "
        f"{len(drift['columns'])} columns of reference features"
    )
    yield (
        f"{out / 'model.onnx'}: {megabytes:.1f} MB, {milliseconds:.1f} ms per image on one core; differs from "
        f"torch by {about['agreement']:.1e} at most"
    )
    yield f"mlflow models serve --env-manager local -m {out / 'pyfunc'}"
