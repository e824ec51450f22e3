"""The chosen model as a folder that needs nothing else: ONNX, MLflow pyfunc, and what both decide by."""

from __future__ import annotations

import base64
import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from partsynth.config.evaluation import AUTO, Evaluate
from partsynth.config.load import load
from partsynth.core.evaluation.ood import Array, Known, softmax
from partsynth.errors import UserError
from partsynth.evaluation.results import Choice, read_summary
from partsynth.evaluation.runs import read_parts
from partsynth.evaluation.scoring import Seen, embed, fit, scorers
from partsynth.records.images import read_image
from partsynth.records.rows import ImageRecord
from partsynth.serving import mlflow_files, station
from partsynth.serving.choose import CHAMPION, Chosen, choose_model
from partsynth.serving.network import OUTPUTS, Deployed, to_onnx
from partsynth.serving.thresholds import Sets, Unknown, fit_sets, fit_temperature, fit_unknown, load_extra
from partsynth.store.files import read_json, write_bytes_atomic, write_json
from partsynth.store.hashing import sha256_bytes, sha256_file
from partsynth.store.layout import Layout
from partsynth.training import classifier

ONNX, PYFUNC, ABOUT = "model.onnx", "pyfunc", "export.json"
PARTS = ("train", "val", "near_val", "far_val")  # what a model is fitted to and chosen by; no test image is looked at
TOLERANCE = 1e-4  # between onnxruntime and torch; of scores above 1, relative
TIMED = 50  # images
LIBRARIES = ("partsynth", "torch", "onnx", "onnxruntime", "mlflow", "numpy", "pillow", "crepes")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What to export, and where to."""

    root: Path
    out: Path  # new folder
    run: str | None = None  # run id or name; None = the alias
    alias: str = CHAMPION
    false_reject: float = 0.05  # share of known parts' images that may be called unknown
    coverage: float = 0.95  # of prediction sets


@dataclass(frozen=True)
class Exported:
    """What was written, for people."""

    about: dict[str, Any]  # export.json
    milliseconds: float  # per image on one core: median over validation images
    megabytes: float  # of model.onnx

    def lines(self, out: Path) -> Iterator[str]:
        model, unknown, sets = self.about["model"], self.about["unknown"], self.about["prediction_set"]
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
        yield (
            f"{out / ONNX}: {self.megabytes:.1f} MB, {self.milliseconds:.1f} ms per image on one core; differs from "
            f"torch by {self.about['agreement']:.1e} at most"
        )
        yield f"mlflow models serve --env-manager local -m {out / PYFUNC}"


@dataclass(frozen=True)
class _Fitted:
    network: Deployed
    known: Known
    choice: Choice
    temperature: float
    unknown: Unknown
    sets: Sets


def export(inputs: Inputs) -> Exported:
    """Write the folder ``inputs.out``, whole or not at all.

    Raises
    ------
    UserError
        where the folder exists, the extra ``serve`` is not installed, a rate is not between 0 and 1, the model or its
        data are not in the workspace, or the headline score has no graph.
    """
    root, out = inputs.root.resolve(), inputs.out
    if out.exists():
        raise UserError(f"{out} exists: name a new folder (--out)")
    for option, value in (("--false-reject", inputs.false_reject), ("--coverage", inputs.coverage)):
        if not 0 < value < 1:
            raise UserError(f"{option} is {value}; it is a share between 0 and 1, such as 0.05")
    for library in ("onnx", "onnxruntime", "crepes"):
        load_extra(library)
    chosen = choose_model(root, inputs.run, inputs.alias)
    params: Evaluate = load("evaluate", root / "params.yaml")
    layout = Layout(root)
    if params.headline_score == AUTO:  # as the evaluation chose
        params = params.model_copy(update={"headline_score": read_summary(layout.summary).headline_score})
    every = read_parts(layout.real, layout.ood, layout.augmented)
    parts = {name: every[name] for name in PARTS if name in every}
    model, config = classifier.load(chosen.model.folder)
    classes = list(config["classes"])
    if sorted(classes) != sorted({row.class_name for row in parts["train"]}):
        raise UserError(f"{chosen.model.folder} was not trained on the classes of {layout.real_manifest}: dvc repro")
    pixels = _read(parts, model.size, root)
    fitted = _fit(inputs, params, model, embed(model, pixels, params.batch_size), parts, classes)

    about = _about(chosen, config, params, fitted, layout)
    training = [{"path": row.path, "sha256": row.sha256, "class": row.class_name} for row in parts["train"]]
    unmasked = load("ingest", root / "params.yaml").unmasked
    data = to_onnx(fitted.network, _for_the_station(about, classes, training, unmasked))
    with _whole(out) as folder:
        write_bytes_atomic(folder / ONNX, data)
        about["agreement"] = _agreement(fitted, folder / ONNX, pixels["val"])
        about["sha256"][ONNX] = sha256_bytes(data)
        encoded = [(root / row.path).read_bytes() for row in parts["val"][:: max(1, len(parts["val"]) // TIMED)]]
        milliseconds = _latency(folder / ONNX, encoded)
        example = base64.b64encode(encoded[0]).decode()
        about["model"]["logged_model"] = mlflow_files.write(
            root, folder / PYFUNC, folder / ONNX, example, chosen.run, about
        )
        write_json(folder / ABOUT, about)
    return Exported(about, milliseconds, len(data) / 1e6)


def _read(parts: dict[str, Sequence[ImageRecord]], size: int, root: Path) -> dict[str, np.ndarray]:
    """Every part as uint8 (n, size, size, 3), its bytes checked against the manifest."""
    from rich.progress import track

    return {
        part: np.stack([np.asarray(read_image(root, row, size)) for row in rows])
        for part, rows in track(parts.items(), description="reading", transient=True)
    }


def _fit(
    inputs: Inputs,
    params: Evaluate,
    model: Any,
    seen: Seen,
    parts: dict[str, Sequence[ImageRecord]],
    classes: list[str],
) -> _Fitted:
    """As the evaluation does, then thresholds on validation images of known parts."""
    labels = {part: np.array([classes.index(row.class_name) for row in parts[part]]) for part in ("train", "val")}
    known, choice = fit(params, model, seen, labels["train"], labels["val"])
    name, val = params.headline_score, seen["val"]
    scores = scorers(known, [name])[name](val.features, val.logits)
    temperature = fit_temperature(val.logits, labels["val"])
    groups = [row.origin_group for row in parts["val"]]
    unknown = fit_unknown(scores, groups, inputs.false_reject, params.confidence)
    sets = fit_sets(softmax(val.logits / temperature), labels["val"], inputs.coverage, params.confidence)
    network = Deployed(model, known, name, temperature, unknown.threshold, sets.least).eval()
    return _Fitted(network, known, choice, temperature, unknown, sets)


def _about(chosen: Chosen, config: dict[str, Any], params: Evaluate, fitted: _Fitted, layout: Layout) -> dict[str, Any]:
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
            **{layout.relative(path): sha256_file(path) for path in (layout.real_manifest,)},
        },
        "calibration": {"temperature": fitted.temperature, "validation_images": unknown.images.n},
        "unknown": {
            "score": params.headline_score,
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


def _for_the_station(
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


def _agreement(fitted: _Fitted, onnx: Path, images: Array) -> float:
    """The largest difference of onnxruntime's probabilities, scores and distances from torch's, checked."""
    session = station.Station(onnx).session
    found = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"images": images}), strict=True))
    with torch.no_grad():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        wanted = dict(zip(OUTPUTS, (value.numpy() for value in fitted.network(pixels)), strict=True))
    worst = max(
        float((np.abs(found[name] - wanted[name]) / np.maximum(1, np.abs(wanted[name]))).max())
        for name in ("probabilities", "ood_score", "nearest_distance")
    )
    if not worst <= TOLERANCE:
        raise RuntimeError(f"onnxruntime and torch differ by {worst:.2e}, more than {TOLERANCE:.0e}")
    return worst


def _latency(onnx: Path, encoded: list[bytes]) -> float:
    """Milliseconds per image on one core, from encoded bytes to the answer: the median."""
    one = station.Station(onnx, threads=1)
    one.answer(one.raw(encoded[0]))
    taken = []
    for data in encoded:
        start = time.perf_counter()
        one.answer(one.raw(data))
        taken.append(time.perf_counter() - start)
    return float(np.median(taken)) * 1000


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that takes its name when the block ends well, and is removed when it does not."""
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.absolute().parent, prefix=f".{out.name}.", suffix=".tmp"))
    try:
        yield folder
        folder.chmod(0o755)
        folder.rename(out.absolute())
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
