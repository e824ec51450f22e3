"""Stage ``adapt``: the base model tuned on one's own training photographs, where ``diffusion.adapt`` asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from partsynth.augmentation.adapting import SHEET, Tuning, tune
from partsynth.augmentation.base_model import find_base
from partsynth.config.models import Adapt, Diffusion
from partsynth.errors import UserError
from partsynth.records.adapted import adaptation_entry, adaptation_metadata
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord
from partsynth.store.files import prune, write_json
from partsynth.store.hashing import fingerprint
from partsynth.store.layout import ADAPTATION, MANIFEST, REAL, Layout
from partsynth.store.png import write_png
from partsynth.store.tensors import safetensors_metadata, write_safetensors
from partsynth.tracking.inputs import DataInput
from partsynth.tracking.run import RunSpec, training_run
from partsynth.tracking.store import experiment

VERSION = 1  # raise it when the same inputs give other weights


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the stage reads, and where it writes."""

    diffusion: Diffusion
    real: Path
    """Folder written by ingest."""
    out: Path
    """Folder for the adaptation."""
    root: Path


def run(inputs: Inputs) -> None:
    """Write ``out/adaptation.safetensors``, a sheet of validation images before and after, then ``out/manifest.json``.

    Without ``diffusion.adapt`` the folder holds a manifest alone, which says so. Training images of ``real`` are
    learned from, validation images say when to stop and how much was gained; no others are opened. A killed run goes on
    from its last checkpoint in ``root/.work/adapt`` and ends with the same bytes. The figures also go to MLflow.

    Raises
    ------
    UserError
        where there are no training or validation images, one differs from its manifest, the base model cannot be
        loaded, or a loss is not finite.
    """
    diffusion, out = inputs.diffusion, inputs.out
    adapt, manifest = diffusion.adapt, out / "manifest.json"
    manifest.unlink(missing_ok=True)
    if adapt is None:
        prune(out, [])
        write_json(manifest, {"adapted": False})
        print("adapt: diffusion.adapt is null, the base model stays as it is")
        return
    plain = find_base(diffusion.model_copy(update={"adapt": None}), inputs.root)
    base = plain.identity
    rows = {split: _images(inputs.real / MANIFEST, split) for split in ("train", "val")}
    mark = _mark(adapt, diffusion, base, rows["train"], rows["val"])
    path, sheet = out / Path(ADAPTATION).name, out / SHEET
    if (safetensors_metadata(path) or {}).get("fingerprint") == mark and sheet.is_file():
        print(f"adapt: {path} is current")
    else:
        tuning = Tuning(diffusion=diffusion, adapt=adapt, base=plain, mark=mark, root=inputs.root, **rows)
        spec = RunSpec(
            stage="adapt",
            setup="adapt",
            seed=adapt.seed,
            fingerprint=mark,
            params={"adapt": adapt.model_dump(mode="json"), "model": diffusion.model, "size": diffusion.size},
            inputs=[DataInput("real", REAL)],
            experiment=f"{experiment()}-adapt",
            name="adapt",
        )
        with training_run(inputs.root, spec) as tracked:
            tuned = tune(tuning, lambda step, values: tracked.log_metrics(values, step))
            tracked.log_metrics(tuned.figures.flat())
            sources, shown = ([[row.path, row.sha256] for row in some] for some in (rows["train"], tuned.shown))
            write_png(sheet, tuned.sheet)
            write_safetensors(path, tuned.weights, adaptation_metadata(mark, base, sources, shown, tuned.figures))
        tuning.forget()
        for line in tuned.figures.lines():
            print(f"adapt: {line}")
    prune(out, [path, sheet])
    write_json(manifest, adaptation_entry(path, Layout(inputs.root).relative(path)))


def _images(manifest: Path, split: str) -> list[RealRecord]:
    rows = [row for row in read_manifest(manifest, RealRecord) if row.split == split and row.role == "target"]
    if not rows:
        raise UserError(f"diffusion.adapt: {manifest} has no images of split {split}, which adapt needs")
    return sorted(rows, key=lambda row: row.path)


def _mark(adapt: Adapt, diffusion: Diffusion, base: str, train: Sequence[RealRecord], val: Sequence[RealRecord]) -> str:
    images = [sorted([row.sha256, row.class_name, row.state] for row in rows) for rows in (train, val)]
    return fingerprint([VERSION, adapt, base, diffusion.size, images])
