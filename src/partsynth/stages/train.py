"""train: supervised contrastive training of one setup with one seed, then a linear classifier on the frozen encoder.

There is one ``fit``; setups differ by the rows of their training table alone and take equally many optimiser steps.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from partsynth.config.training import Train
from partsynth.core.contrastive import encoder as encoders
from partsynth.errors import UserError
from partsynth.lineage.code import code_hash
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord, SelectedRecord
from partsynth.store import files, hashing
from partsynth.store.files import write_bytes_atomic, write_json, write_text_atomic
from partsynth.tracking.inputs import DataInput
from partsynth.tracking.run import training_run
from partsynth.tracking.store import EXPERIMENT

if TYPE_CHECKING:
    pass
from partsynth.training.checkpoint import WORK, Checkpoint
from partsynth.training.devices import make_accelerator
from partsynth.training.fit import fit, refuse_own_class
from partsynth.training.images import inventory, load_pictures
from partsynth.training.result import Fitted, Measurement

FILES = ("encoder.safetensors", "classifier.safetensors", "config.json", "history.csv", "curves.png", "run.json")


def run(
    params: Train,
    setup: str,
    seed: int,
    selected: Path,
    real: Path,
    out: Path,
    root: Path,
    *,
    parent_run_id: str | None = None,
    experiment: str = EXPERIMENT,
    on_measure: Callable[[Measurement], None] | None = None,
) -> dict[str, float]:
    """Train ``setup`` with ``seed`` and write the model's folder ``out``; returns the final metrics.

    Reads ``selected`` (SelectedRecord rows) and the val part of ``real``/manifest.csv; every picture is checked against
    its sha256. Writes encoder.safetensors, classifier.safetensors, config.json, history.csv, curves.png and, last,
    run.json. Where ``out`` already holds the product of the same inputs, nothing is trained.

    Raises
    ------
    UserError
        for pictures that are missing, altered or of another size, unusable tables, a device that is not there, and
        a loss that is no number any more (``NonFinite``).
    """
    started = time.perf_counter()
    rows, val = _read_tables(selected, real)
    refuse_own_class(any(r.role == "negative" and r.origin == "real" for r in rows), params)
    mark = fingerprint_of(params, setup, seed, rows, val)
    if (metrics := _finished(out, mark)) is not None:
        print(f"train {setup}, seed {seed}: {out} is current")
        return metrics
    accelerator = make_accelerator(params)
    pictures = load_pictures(rows, val, params.size, root)
    if accelerator.is_main_process:
        print(f"train {setup}, seed {seed}: {inventory(rows)}; {len(val)} for validation; {params.steps} steps")
    checkpoint = Checkpoint(root / WORK / f"{setup}-{seed}" / f"{mark[:16]}.safetensors", mark)
    if not accelerator.is_main_process:
        return fit(pictures, params, seed, accelerator, checkpoint=checkpoint).metrics

    (out / "run.json").unlink(missing_ok=True)
    files.prune(out, [out / name for name in FILES])
    logged = {"train": params.model_dump(mode="json"), "setup": setup, "seed": seed, "pictures": len(rows)}
    with training_run(
        root,
        "train",
        setup,
        seed,
        mark,
        logged,
        _inputs(rows, selected, real, root),
        parent_run_id=parent_run_id,
        experiment=experiment,
    ) as tracked:

        def measured(m: Measurement) -> None:
            figures = {"val_accuracy_knn": m.val_accuracy_knn} | asdict(m)  # first what runs are compared by
            tracked.log_metrics({k: v for k, v in figures.items() if k != "step" and not math.isnan(v)}, m.step)
            if on_measure:
                on_measure(m)

        fitted = fit(pictures, params, seed, accelerator, measured, checkpoint)
        metrics = {k: v for k, v in fitted.metrics.items() if not math.isnan(v)}
        _write(fitted, params, setup, seed, mark, pictures.classes, out)
        seconds = time.perf_counter() - started
        tracked.log_metrics({f"final_{k}": v for k, v in metrics.items()} | {"seconds": seconds}, params.steps)
        if fitted.collapsed:
            tracked.set_tags({"collapse": fitted.collapsed})
        tracked.log_model(out)
        tracked.log_artifact(out / "curves.png", "plots")
        write_json(out / "run.json", tracked.identity)
    checkpoint.delete()
    told = ", ".join(f"{k} {metrics[k]:.3f}" for k in ("val_accuracy", "val_accuracy_knn", "loss") if k in metrics)
    print(f"train {setup}, seed {seed}: {told} ({seconds:.0f} s)")
    if fitted.collapsed:
        print(f"WARNING: train {setup}, seed {seed}: {fitted.collapsed}")
    return metrics


def fingerprint_of(
    params: Train, setup: str, seed: int, rows: Sequence[SelectedRecord], val: Sequence[RealRecord]
) -> str:
    """Identity of a training: parameters that shape it, pictures by hash and use, and the code that does it."""
    return hashing.fingerprint(
        {
            "params": params.model_dump(mode="json"),
            "setup": setup,
            "seed": seed,
            "rows": [[r.path, r.sha256, r.class_name, r.role, r.origin, r.source] for r in rows],
            "val": [[r.path, r.sha256, r.class_name] for r in val],
            "code": code_hash("train"),
        }
    )


def _read_tables(selected: Path, real: Path) -> tuple[list[SelectedRecord], list[RealRecord]]:
    rows = read_manifest(selected, SelectedRecord)
    faults = [
        f"{r.path}: role {r.role!r}, allowed: positive, negative"
        for r in rows
        if r.role not in ("positive", "negative")
    ]
    classes = sorted({r.class_name for r in rows if r.role == "positive" and r.origin == "real"})
    if len(classes) < 2:
        faults.append(f"needs real pictures of at least two classes, has {', '.join(classes) or 'none'}")
    strangers = sorted({r.class_name for r in rows} - set(classes))
    if strangers:
        faults.append(f"classes without a real picture: {', '.join(strangers)}")
    if faults:
        raise UserError(f"{selected} cannot be trained on:\n  " + "\n  ".join(faults[:10]))
    manifest = read_manifest(real / "manifest.csv", RealRecord)
    return rows, [r for r in manifest if r.split == "val" and r.role == "target" and r.class_name in classes]


def _inputs(rows: Sequence[SelectedRecord], selected: Path, real: Path, root: Path) -> list[DataInput]:
    def name(path: Path) -> str:
        return (path if not path.is_absolute() else path.relative_to(root)).as_posix()

    inputs = [
        DataInput("real", name(real), None, "training"),
        DataInput(f"selected-{selected.stem}", name(selected), None, "training"),
    ]
    made = sorted({(r.origin, r.role) for r in rows if r.origin != "real"})
    inputs += [
        DataInput(origin, f"data/augmented/{origin}", None, "training" if role == "positive" else "negatives")
        for origin, role in made
    ]
    if made:
        inputs.append(DataInput("tokens", "models/tokens", None, "tokens"))
    return inputs


def _finished(out: Path, mark: str) -> dict[str, float] | None:
    """The metrics of a whole product of this fingerprint, else None."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(out / "encoder.safetensors", "np") as file:
            if (file.metadata() or {}).get("fingerprint") != mark:
                return None
        config = json.loads((out / "config.json").read_text())
        whole = config["fingerprint"] == mark and json.loads((out / "run.json").read_text())["fingerprint"] == mark
        return config["metrics"] if whole and (out / "classifier.safetensors").is_file() else None
    except (OSError, SafetensorError, ValueError, KeyError):
        return None


def _write(fitted: Fitted, params: Train, setup: str, seed: int, mark: str, classes: list[str], out: Path) -> None:
    from safetensors.torch import save

    def write(name: str, module: torch.nn.Module) -> None:
        write_bytes_atomic(out / name, save(encoders.tensors(module), {"fingerprint": mark}))

    write("encoder.safetensors", fitted.model.encoder)
    write("classifier.safetensors", fitted.model.classifier)
    metrics = {k: v for k, v in fitted.metrics.items() if not math.isnan(v)}
    architecture = {"width": params.width, "blocks": params.blocks, "embedding": params.embedding}
    write_json(
        out / "config.json",
        {
            "architecture": architecture,
            "size": params.size,
            "classes": classes,
            "setup": setup,
            "seed": seed,
            "train": params.model_dump(mode="json"),
            "metrics": metrics,
            "collapse": fitted.collapsed,
            "fingerprint": mark,
        },
    )
    header = list(Measurement.__dataclass_fields__)
    lines = [",".join(header)] + [",".join(repr(v) for v in asdict(row).values()) for row in fitted.history]
    write_text_atomic(out / "history.csv", "\n".join(lines) + "\n")
    _plot(fitted.history, f"{setup}, seed {seed}", out / "curves.png")


def _plot(history: Sequence[Measurement], title: str, path: Path) -> None:
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    FigureCanvasAgg(figure)
    names = {
        "loss": "SupCon loss",
        "val_accuracy_knn": "validation accuracy (1-NN)",
        "feature_variance": "feature variance",
    }
    for axes, (name, label) in zip(figure.subplots(1, 3), names.items(), strict=True):
        axes.plot([m.step for m in history], [getattr(m, name) for m in history], marker=".")
        axes.set_title(label, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        if name != "loss":
            axes.set_ylim(0, 1.02)
    figure.suptitle(title, fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    write_bytes_atomic(path, buffer.getvalue())
