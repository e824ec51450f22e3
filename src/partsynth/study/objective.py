"""One trial: train with its parameters, score on validation images."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partsynth.config.params import Params
from partsynth.config.training import SelectSetup, Train
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import SelectedRecord
from partsynth.store.hashing import fingerprint
from partsynth.study import space
from partsynth.tracking.inputs import DataInput
from partsynth.tracking.run import TrainingRun, training_run
from partsynth.tracking.store import STUDIES
from partsynth.tracking.studies import end_run

if TYPE_CHECKING:
    import optuna
from partsynth.study.storage import worker_name

TABLE = "lineage/selected.csv"  # artifact of a trial with a band of its own


class Surplus(Exception):
    """Another worker took the last open trial at the same moment."""


class Objective:
    """Train with a trial's parameters and score on validation pictures; one object a worker process."""

    def __init__(self, params: Params, root: Path, data: space.Data, parent_run_id: str, threads: int) -> None:
        self.params, self.root, self.data, self.parent = params, root, data, parent_run_id
        self.threads = threads
        self._ood = self._load_ood()

    def _load_ood(self) -> dict[str, Any]:
        import numpy as np

        from partsynth.core.contrastive import encoder
        from partsynth.records.images import read_image

        size = self.params.train.size
        return {
            part: np.stack([np.asarray(encoder.resize(read_image(self.root, row), size)) for row in rows])
            for part, rows in (("near_val", self.data.near), ("far_val", self.data.far))
            if rows
        }

    def __call__(self, trial: optuna.Trial) -> float | tuple[float, float]:
        import optuna

        study = self.params.study
        trial.set_user_attr("worker", worker_name())
        frozen = trial.study.get_trials(deepcopy=False)[trial.number]
        if _taken(trial.study, frozen) >= study.trials:
            trial.set_user_attr("surplus", True)
            raise Surplus
        origin = optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number(frozen)
        attempt_before = frozen.user_attrs.get("mlflow_run_id")  # inherited from the attempt that this one repeats
        limits = space.ranges(self.params, self.data)
        values = {name: trial.suggest_float(name, low, high, log=log) for name, (low, high, log) in limits.items()}
        train, select = space.settings(self.params, values)
        rows, table, digest = self._rows(select)
        drift = space.anchor_drift(rows, train)
        identity = fingerprint([study.name, trial.number if origin is None else origin, train, select, digest])
        inputs = [
            DataInput("real", space.REAL),
            DataInput("ood-validation", space.OOD, None, "validation"),
            DataInput(f"selected-{study.setup}", self.data.table if table is None else TABLE, digest),
            *(
                DataInput(name, f"data/augmented/{name}", None, "training" if role == "positive" else "negatives")
                for name, role in self.data.sets
            ),
        ]
        logged = {"train": train.model_dump(mode="json"), "setup": study.setup, "seed": study.seed}
        if table is not None:
            logged["select"] = select.model_dump(mode="json")
        tags = {"study": study.name, "trial": trial.number}
        if origin is not None:
            tags["retry_of"] = origin
        unfinished: Exception | None = None
        with training_run(
            self.root,
            "study",
            study.setup,
            study.seed,
            identity,
            logged,
            inputs,
            tags,
            parent_run_id=self.parent,
            experiment=STUDIES,
            name=f"{study.name}-trial{trial.number}",
        ) as run:
            trial.set_user_attr("mlflow_run_id", run.run_id)
            if attempt_before:
                end_run(self.root, attempt_before, "KILLED", {"superseded_by": run.run_id})
            if table is not None:
                with tempfile.TemporaryDirectory() as folder:
                    Path(folder, Path(TABLE).name).write_bytes(table)
                    run.log_artifact(Path(folder, Path(TABLE).name), str(Path(TABLE).parent))
            try:
                figures = self._score(trial, train, rows, run)
            except (optuna.TrialPruned, _Diverged) as stop:
                unfinished = stop
                run.status = "KILLED"
                run.set_tags({"optuna_state": "PRUNED", "why": str(stop) or "below the median of earlier trials"})
            else:
                figures["drift"] = drift
                run.log_metrics({name: value for name, value in figures.items() if not math.isnan(value)})
                run.set_tags({"optuna_state": "COMPLETE"})
        if unfinished is not None:
            raise optuna.TrialPruned(str(unfinished))
        for name, value in figures.items():
            trial.set_user_attr(name, None if math.isnan(value) else value)
        trial.set_user_attr("train", train.model_dump(mode="json"))
        if table is not None:
            trial.set_user_attr("band", list(select.band))
        if study.mode == "pareto":
            return figures["val_accuracy"], figures["near_ood_auroc"]
        if not math.isnan(figures["near_ood_auroc"]):
            trial.set_constraint("near_ood_auroc", study.min_ood_auroc - figures["near_ood_auroc"])
        if not math.isnan(drift):
            trial.set_constraint("drift", drift - study.max_drift)
        return figures["val_accuracy"]

    def _rows(self, select: SelectSetup) -> tuple[tuple[SelectedRecord, ...], bytes | None, str]:
        """Training rows; of a trial with a band of its own also the table's bytes; and the table's md5."""
        if self.data.band is None or self.params.study.space.band is None:
            return self.data.rows, None, self.data.digests[self.data.table]
        from partsynth.stages import select as stages_select

        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "selected.csv")
            onto, manifest, verdicts = (self.root / path for path in self.data.band)
            real = self.root / space.REAL / "manifest.csv"
            with contextlib.redirect_stdout(io.StringIO()):  # what the stage tells of itself
                stages_select.run(
                    stages_select.Inputs(
                        params=select,
                        setup=self.params.study.setup,
                        onto=onto,
                        manifest=manifest,
                        verdicts=verdicts,
                        real=real,
                        out=out,
                    )
                )
            table = out.read_bytes()
            rows = tuple(read_manifest(out, SelectedRecord))
        return rows, table, hashlib.md5(table, usedforsecurity=False).hexdigest()

    def _score(
        self, trial: optuna.Trial, train: Train, rows: tuple[SelectedRecord, ...], run: TrainingRun
    ) -> dict[str, float]:
        import optuna
        import torch

        from partsynth.training.devices import make_accelerator
        from partsynth.training.fit import fit
        from partsynth.training.images import load_images
        from partsynth.training.result import NonFinite

        images = load_images(rows, self.data.validation, train.size, self.root)
        accelerator = make_accelerator(train)
        torch.set_num_threads(self.threads)

        def measured(m: Any) -> None:
            run.log_metrics({"val_accuracy_knn": m.val_accuracy_knn, "loss": m.loss}, m.step)
            if self.params.study.mode == "constrained":
                trial.report(m.val_accuracy_knn, m.step)
                if trial.should_prune():
                    raise optuna.TrialPruned

        try:
            fitted = fit(images, train, self.params.study.seed, accelerator=accelerator, on_measure=measured)
        except NonFinite as error:
            raise _Diverged(str(error)) from None
        return {"val_accuracy": fitted.metrics["val_accuracy"]} | self._ood_figures(fitted.model, images)

    def _ood_figures(self, model: Any, images: Any) -> dict[str, float]:
        """AUROC of near and far OOD-validation against real validation images by the evaluation's headline score."""
        import numpy as np

        from partsynth.evaluation.scoring import embed, fit, validation_auroc

        real, params = np.flatnonzero(images.is_real), self.params.evaluate
        shown = {"train": images.images[real], "val": images.val_images, **self._ood}
        seen = embed(model, shown, params.batch_size)
        known, _ = fit(params, model, seen, images.labels[real], images.val_labels)
        return validation_auroc(params, known, seen)


class _Diverged(Exception):
    """The loss became no number: counts as pruned, so that the sampler keeps away from there."""


def _taken(study: Any, mine: Any) -> int:
    """Trials that are COMPLETE or were started before this one: with the target or more of them, it is one too many."""
    from optuna.trial import TrialState

    place = (mine.datetime_start, mine.number)
    return sum(
        t.state == TrialState.COMPLETE or (t.state == TrialState.RUNNING and (t.datetime_start, t.number) < place)
        for t in study.get_trials(deepcopy=False)
    )
