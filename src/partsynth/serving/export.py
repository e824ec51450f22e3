"""The chosen model as a folder that needs nothing else: ONNX, MLflow pyfunc, and what both decide by."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from partsynth.config.data import Ingest
from partsynth.config.evaluation import AUTO, Evaluate
from partsynth.config.load import load
from partsynth.errors import UserError
from partsynth.evaluation.results import read_summary
from partsynth.evaluation.runs import read_parts, refuse_damaged
from partsynth.evaluation.scoring import embed
from partsynth.records.images import read_image
from partsynth.records.rows import ImageRecord, RealRecord
from partsynth.serving import drift_export, mlflow_files
from partsynth.serving.checks import agreement, latency
from partsynth.serving.choose import CHAMPION, choose_model
from partsynth.serving.describe import describe, for_the_station, told
from partsynth.serving.extras import load_extra
from partsynth.serving.fitted import fit_all
from partsynth.serving.network import to_onnx
from partsynth.store.drafts import draft_folder
from partsynth.store.files import write_bytes_atomic, write_json
from partsynth.store.hashing import sha256_bytes
from partsynth.store.layout import Layout
from partsynth.training import classifier

ONNX, PYFUNC, ABOUT = "model.onnx", "pyfunc", "export.json"
PARTS = ("train", "val", "near_val", "far_val")  # what a model is fitted to and chosen by; no test image is looked at
TIMED = 50  # images


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
    """What was written."""

    about: dict[str, Any]  # export.json
    milliseconds: float  # per image on one core: median over validation images
    megabytes: float  # of model.onnx

    def lines(self, out: Path) -> Iterator[str]:
        return told(self.about, out, self.milliseconds, self.megabytes)


def export(inputs: Inputs) -> Exported:
    """Write the folder ``inputs.out``, whole or not at all.

    Raises
    ------
    UserError
        where the folder exists, the extra ``serve`` is not installed, a rate is not between 0 and 1, the model or its
        data are not in the workspace, a photograph among them was taken down, or the headline score has no graph.
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
    ingest: Ingest = load("ingest", root / "params.yaml")
    _require_untouched(parts, ingest, layout)
    model, config = classifier.load(chosen.model.folder)
    refuse_damaged(chosen.model.folder, model, config["fingerprint"])
    classes = list(config["classes"])
    if sorted(classes) != sorted({row.class_name for row in parts["train"]}):
        raise UserError(f"{chosen.model.folder} was not trained on the classes of {layout.real_manifest}: dvc repro")
    pixels = _read(parts, model.size, root)
    seen = embed(model, pixels, params.batch_size)
    fitted = fit_all(inputs.false_reject, inputs.coverage, params, model, seen, parts, classes)

    about = describe(chosen, config, fitted, layout)
    training = [{"path": row.path, "sha256": row.sha256, "class": row.class_name} for row in parts["train"]]
    unmasked = ingest.unmasked
    data = to_onnx(fitted.network, for_the_station(about, classes, training, unmasked))
    with _whole(out) as folder:
        write_bytes_atomic(folder / ONNX, data)
        about["agreement"] = agreement(fitted.network, folder / ONNX, pixels["val"])
        about["sha256"][ONNX] = sha256_bytes(data)
        about["drift"] = drift_export.try_writing(
            folder,
            root=root,
            reference=load("reference", root / "params.yaml"),
            train=parts["train"],
            val=parts["val"],
            predicted=seen["val"].logits.argmax(axis=1),
            classes=classes,
        )
        encoded = [(root / row.path).read_bytes() for row in parts["val"][:: max(1, len(parts["val"]) // TIMED)]]
        milliseconds = latency(folder / ONNX, encoded)
        example = base64.b64encode(encoded[0]).decode()
        about["model"]["logged_model"] = mlflow_files.write(
            root, folder / PYFUNC, folder / ONNX, example, chosen.run, about
        )
        write_json(folder / ABOUT, about)
    return Exported(about, milliseconds, len(data) / 1e6)


def _require_untouched(parts: dict[str, Sequence[ImageRecord]], ingest: Ingest, layout: Layout) -> None:
    for row in (row for rows in parts.values() for row in rows):
        if isinstance(row, RealRecord) and row.source_sha256 in ingest.taken_down:
            raise UserError(
                f"{layout.real_manifest} has {row.path}, whose photograph was taken down "
                f"({ingest.taken_down[row.source_sha256]}): dvc repro, then export"
            )


def _read(parts: dict[str, Sequence[ImageRecord]], size: int, root: Path) -> dict[str, np.ndarray]:
    """Every part as uint8 (n, size, size, 3), its bytes checked against the manifest."""
    from rich.progress import track

    return {
        part: np.stack([np.asarray(read_image(root, row, size)) for row in rows])
        for part, rows in track(parts.items(), description="reading", transient=True)
    }


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that takes its name when the block ends well, and is removed when it does not."""
    with draft_folder(out.absolute()) as folder:
        yield folder
        folder.chmod(0o755)
        folder.rename(out.absolute())
