"""train: supervised contrastive training of one setup with one seed, then a linear probe on the frozen encoder.

There is one ``fit``; setups differ by the rows of their training table alone and take equally many optimiser steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from partsynth.config.training import Train
from partsynth.core.backbones.base import Weights
from partsynth.errors import UserError, listed
from partsynth.lineage.code import code_hash
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord, SelectedRecord
from partsynth.records.training import used
from partsynth.store.files import prune, write_json
from partsynth.store.hashing import fingerprint
from partsynth.store.layout import AUGMENTED, MANIFEST, TOKENS, Layout
from partsynth.store.reading import read_object
from partsynth.store.state import SavedState
from partsynth.store.tensors import safetensors_metadata
from partsynth.tracking.inputs import DataInput
from partsynth.tracking.run import RunSpec, training_run
from partsynth.tracking.store import experiment
from partsynth.training import classifier
from partsynth.training.checkpoint import Checkpoint
from partsynth.training.curves import curves_png, history_csv
from partsynth.training.devices import make_accelerator
from partsynth.training.fit import fit, refuse_own_class
from partsynth.training.images import inventory, load_images
from partsynth.training.result import Fitted, Measurement

HISTORY, CURVES, RUN = "history.csv", "curves.png", "run.json"
FILES = (classifier.ENCODER, classifier.PROBE, classifier.CONFIG, HISTORY, CURVES)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What one training takes, and where its product goes."""

    params: Train  # as the setup has it
    setup: str
    seed: int
    selected: Path  # the setup's training table
    real: Path  # ingest's folder: the val part of its manifest is watched
    out: Path  # folder of the model
    record: Path | None = None  # run.json; apart from the model, so that its folder has the same bytes again
    root: Path  # of the repository: paths in tables are relative to it
    parent_run_id: str | None = None
    experiment: str = field(default_factory=experiment)
    on_measure: Callable[[Measurement], None] | None = None


def run(inputs: Inputs) -> dict[str, float]:
    """Train and write the model's folder; returns the final metrics.

    Every image is checked against its sha256. Writes encoder.safetensors, classifier.safetensors, config.json,
    history.csv, curves.png and, last, the run's record. Where the folder already holds the product of the same inputs,
    nothing is trained.

    Raises
    ------
    UserError
        for images that are missing, altered or of another size, unusable tables, a device that is not there, and
        a loss that is no number any more (``NonFinite``).
    """
    started = time.perf_counter()
    params, out, title = inputs.params, inputs.out, f"{inputs.setup}, seed {inputs.seed}"
    record = inputs.record or out / RUN
    rows, val = read_tables(inputs.selected, inputs.real)
    refuse_own_class(any(r.role == "negative" and r.origin == "real" for r in rows), params)
    weights = classifier.stored_weights(params)
    mark = fingerprint_of(params, inputs.setup, inputs.seed, rows, val, weights)
    if (metrics := _finished(out, record, mark)) is not None:
        print(f"train {title}: {out} is current")
        return metrics
    accelerator = make_accelerator(params)
    try:
        images = load_images(rows, val, params.size, inputs.root)
    except UserError as error:
        raise UserError(f"{inputs.selected}: {error}") from None
    work = Layout(inputs.root).work / "train" / f"{inputs.setup}-{inputs.seed}"
    checkpoint = Checkpoint(SavedState(work / f"{mark[:16]}.safetensors", mark))
    if not accelerator.is_main_process:
        return fit(
            images, params, inputs.seed, accelerator=accelerator, checkpoint=checkpoint, root=inputs.root
        ).metrics

    task = "the linear probe alone" if params.trainable == "none" else f"{params.steps} steps"
    print(f"train {title}: {inventory(rows)}; {len(val)} for validation; {task}")
    record.unlink(missing_ok=True)
    prune(out, [out / name for name in FILES])
    spec = RunSpec(
        stage="train",
        setup=inputs.setup,
        seed=inputs.seed,
        fingerprint=mark,
        params={
            "train": params.model_dump(mode="json"),
            "setup": inputs.setup,
            "seed": inputs.seed,
            "pictures": len(rows),
            **({"weights": weights.facts} if weights else {}),
        },
        inputs=_data_inputs(rows, inputs),
        parent_run_id=inputs.parent_run_id,
        experiment=inputs.experiment,
    )
    with training_run(inputs.root, spec) as tracked:

        def measured(m: Measurement) -> None:
            figures = {"val_accuracy_knn": m.val_accuracy_knn} | asdict(m)  # first what runs are compared by
            tracked.log_metrics({k: v for k, v in figures.items() if k != "step" and not math.isnan(v)}, m.step)
            if inputs.on_measure:
                inputs.on_measure(m)

        fitted = fit(
            images,
            params,
            inputs.seed,
            accelerator=accelerator,
            on_measure=measured,
            checkpoint=checkpoint,
            root=inputs.root,
        )
        metrics = {k: v for k, v in fitted.metrics.items() if not math.isnan(v)}
        _write(fitted, metrics, images.classes, rows, mark, weights, inputs)
        seconds = time.perf_counter() - started
        tracked.log_metrics({f"final_{k}": v for k, v in metrics.items()} | {"seconds": seconds}, params.steps)
        if fitted.collapsed:
            tracked.set_tags({"collapse": fitted.collapsed})
        tracked.log_model(out)
        tracked.log_artifact(out / CURVES, "plots")
    write_json(record, tracked.identity)  # of a run that is whole in the store
    checkpoint.delete()
    told = ", ".join(f"{k} {metrics[k]:.3f}" for k in ("val_accuracy", "val_accuracy_knn", "loss") if k in metrics)
    print(f"train {title}: {told} ({seconds:.0f} s)")
    if fitted.collapsed:
        print(f"WARNING: train {title}: {fitted.collapsed}")
    return metrics


def fingerprint_of(
    params: Train,
    setup: str,
    seed: int,
    rows: Sequence[SelectedRecord],
    val: Sequence[RealRecord],
    weights: Weights | None = None,
) -> str:
    """Identity of a training: parameters that shape it, images by hash and use, the stored weights that it starts from,
    and the code that does it."""
    return fingerprint(
        {
            "params": params.model_dump(mode="json"),
            "setup": setup,
            "seed": seed,
            "rows": used(rows),
            "val": [[r.path, r.sha256, r.class_name] for r in val],
            "code": code_hash("train"),
            **({"weights": weights.sha256} if weights else {}),
        }
    )


def read_tables(selected: Path, real: Path) -> tuple[list[SelectedRecord], list[RealRecord]]:
    """The training table, and the real validation images of its classes.

    Raises
    ------
    UserError
        naming all that makes the table unusable.
    """
    rows = read_manifest(selected, SelectedRecord)
    faults = []
    classes = sorted({r.class_name for r in rows if r.role == "positive" and r.origin == "real"})
    if len(classes) < 2:
        faults.append(f"needs real images of at least two classes, has {', '.join(classes) or 'none'}")
    strangers = sorted({r.class_name for r in rows} - set(classes))
    if strangers:
        faults.append(f"classes without a real image: {', '.join(strangers)}")
    if faults:
        raise UserError(f"{selected} cannot be trained on:\n  {listed(faults)}")
    manifest = read_manifest(real / MANIFEST, RealRecord)
    return rows, [r for r in manifest if r.split == "val" and r.role == "target" and r.class_name in classes]


def _data_inputs(rows: Sequence[SelectedRecord], inputs: Inputs) -> list[DataInput]:
    """The data sets of the run; an augmentation set's context says which part it plays."""
    layout = Layout(inputs.root)
    sets = sorted({(r.origin, r.role) for r in rows if r.origin != "real"})
    return [
        DataInput("real", layout.relative(inputs.real)),
        DataInput(f"selected-{inputs.selected.stem}", layout.relative(inputs.selected)),
        *(
            DataInput(origin, f"{AUGMENTED}/{origin}", context="training" if role == "positive" else "negatives")
            for origin, role in sets
        ),
        *([DataInput("tokens", TOKENS, context="tokens")] if sets else []),
    ]


def _finished(out: Path, record: Path, mark: str) -> dict[str, float] | None:
    """The metrics of a whole product of this fingerprint, else None."""
    if (safetensors_metadata(out / classifier.ENCODER) or {}).get("fingerprint") != mark:
        return None
    try:
        config, named = read_object(out / classifier.CONFIG), read_object(record)
        classifier.refuse_changed(out, config)
        whole = config["fingerprint"] == mark and named["fingerprint"] == mark and isinstance(named["run_id"], str)
        return config["metrics"] if whole and safetensors_metadata(out / classifier.PROBE) is not None else None
    except (UserError, OSError):
        return None


def _write(
    fitted: Fitted,
    metrics: dict[str, float],
    classes: list[str],
    rows: Sequence[SelectedRecord],
    mark: str,
    weights: Weights | None,
    inputs: Inputs,
) -> None:
    config = {
        "architecture": classifier.architecture(inputs.params, fitted.model.encoder),
        "classes": classes,
        "setup": inputs.setup,
        "seed": inputs.seed,
        "train": inputs.params.model_dump(mode="json"),
        "trained_on": fingerprint(used(rows)),
        "metrics": metrics,
        "collapse": fitted.collapsed,
        **({"weights": weights.facts} if weights else {}),
    }
    curves = curves_png(fitted.history, f"{inputs.setup}, seed {inputs.seed}")
    beside = {HISTORY: history_csv(fitted.history).encode(), CURVES: curves}
    classifier.save(fitted.model, config, mark, inputs.out, beside)
