"""One trial: train with its parameters, score on validation images."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from partsynth.config.params import Params
from partsynth.config.training import SelectSetup, Train
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import SelectedRecord
from partsynth.stages import select as select_stage
from partsynth.store import process
from partsynth.store.hashing import fingerprint
from partsynth.store.layout import AUGMENTED, OOD, REAL, Layout
from partsynth.study import space
from partsynth.study.retries import original
from partsynth.study.validation import ValidatedTraining
from partsynth.tracking.inputs import DataInput
from partsynth.tracking.run import RunSpec, TrainingRun, training_run
from partsynth.tracking.store import STUDIES
from partsynth.tracking.studies import end_run
from partsynth.training.result import Measurement, NonFinite

TABLE = "lineage/selected.csv"  # artifact of a trial with a band of its own


class Surplus(Exception):
    """Another worker took the last open trial at the same moment."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a trial trains with."""

    train: Train
    select: SelectSetup
    rows: tuple[SelectedRecord, ...]
    digest: str  # md5 of the training table
    table: bytes | None  # of a trial with a band of its own

    @property
    def drift(self) -> float:
        return space.anchor_drift(self.rows, self.train)


class Objective:
    """Train with a trial's parameters and score on validation images; one object per worker process."""

    def __init__(self, params: Params, root: Path, data: space.Data, parent_run_id: str, threads: int) -> None:
        self.params, self.root, self.data, self.parent = params, root, data, parent_run_id
        self.measure = ValidatedTraining(params, root, data, threads)

    def __call__(self, trial: optuna.Trial) -> float | tuple[float, float]:
        """
        Raises
        ------
        Surplus
            where enough trials are under way without this one.
        optuna.TrialPruned
            where it falls behind others, or its loss becomes no number.
        """
        trial.set_user_attr("worker", process.identity())
        frozen = trial.study.get_trials(deepcopy=False)[trial.number]
        if _taken(trial.study, frozen) >= self.params.study.trials:
            trial.set_user_attr("surplus", True)
            raise Surplus
        drawn = self._draw(trial)
        return self._tell(trial, drawn, self._train(trial, frozen, drawn))

    def again(self, trial: FrozenTrial, seed: int) -> dict[str, float]:
        """Figures of a complete trial's parameters, trained on another seed.

        Raises
        ------
        NonFinite
            where the loss becomes no number.
        """
        drawn = self._drawn(trial.params)
        name = f"{self.params.study.name}-trial{trial.number}-seed{seed}"
        spec = self._spec(trial.number, None, drawn, seed=seed, name=name, tags={"retrained": trial.number})
        with training_run(self.root, spec) as run:
            if drawn.table is not None:
                run.log_file(TABLE, drawn.table)
            figures = self.measure(drawn.train, drawn.rows, self._logs(run), seed)
            run.log_metrics({name: value for name, value in figures.items() if not math.isnan(value)})
        return figures

    def _draw(self, trial: optuna.Trial) -> Drawn:
        limits = space.ranges(self.params, self.data)
        return self._drawn(
            {name: trial.suggest_float(name, low, high, log=log) for name, (low, high, log) in limits.items()}
        )

    def _drawn(self, values: dict[str, float]) -> Drawn:
        train, select = space.settings(self.params, values)
        if self.data.band is None or self.params.study.space.band is None:
            digest = self.data.digests[self.data.table]
            return Drawn(train=train, select=select, rows=self.data.rows, digest=digest, table=None)
        table, rows = self._select(select, self.data.band)
        digest = hashlib.md5(table, usedforsecurity=False).hexdigest()
        return Drawn(train=train, select=select, rows=rows, digest=digest, table=table)

    def _select(self, select: SelectSetup, band: space.Band) -> tuple[bytes, tuple[SelectedRecord, ...]]:
        """The training table of a band, as the stage makes it."""
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            inputs = select_stage.Inputs(
                params=select,
                setup=self.params.study.setup,
                onto=self.root / band.onto,
                manifest=self.root / band.manifest,
                verdicts=self.root / band.verdicts,
                review=None if band.review is None else self.root / band.review,
                real=Layout(self.root).real_manifest,
                out=Path(folder, "selected.csv"),
            )
            select_stage.run(inputs)
            return inputs.out.read_bytes(), tuple(read_manifest(inputs.out, SelectedRecord))

    def _train(self, trial: optuna.Trial, frozen: FrozenTrial, drawn: Drawn) -> dict[str, float]:
        """Figures of the training, in an MLflow run that takes the place of that of an earlier attempt."""
        before = frozen.user_attrs.get("mlflow_run_id")  # inherited from the attempt that this one repeats
        with training_run(self.root, self._spec(trial.number, original(frozen), drawn)) as run:
            trial.set_user_attr("mlflow_run_id", run.run_id)
            if before:
                end_run(self.root, before, "KILLED", {"superseded_by": run.run_id})
            if drawn.table is not None:
                run.log_file(TABLE, drawn.table)
            figures: dict[str, float] | None = None
            why = ""
            try:
                figures = self.measure(drawn.train, drawn.rows, self._listener(trial, run), self.params.study.seed)
            except (optuna.TrialPruned, NonFinite) as stop:  # pruned, so that the sampler keeps away from there
                why = str(stop)
                run.status = "KILLED"
                run.set_tags({"optuna_state": "PRUNED", "why": why or "below the median of earlier trials"})
            else:
                figures |= {"drift": drawn.drift}
                run.log_metrics({name: value for name, value in figures.items() if not math.isnan(value)})
                run.set_tags({"optuna_state": "COMPLETE"})
        if figures is None:
            raise optuna.TrialPruned(why)
        return figures

    def _spec(
        self,
        trial: int,
        origin: int | None,
        drawn: Drawn,
        *,
        seed: int | None = None,
        name: str = "",
        tags: dict[str, Any] | None = None,
    ) -> RunSpec:
        """``origin`` is the number of the trial that this one repeats; ``seed`` that of a training on another one."""
        study = self.params.study
        number = trial if origin is None else origin
        other = [] if seed is None else [seed]
        params: dict[str, Any] = {
            "train": drawn.train.model_dump(mode="json"),
            "setup": study.setup,
            "seed": study.seed if seed is None else seed,
        }
        if drawn.table is not None:
            params["select"] = drawn.select.model_dump(mode="json")
        told = tags or {"trial": trial} | ({} if origin is None else {"retry_of": origin})
        table = self.data.table if drawn.table is None else TABLE
        return RunSpec(
            stage="study",
            setup=study.setup,
            seed=study.seed if seed is None else seed,
            fingerprint=fingerprint([study.name, number, drawn.train, drawn.select, drawn.digest, *other]),
            params=params,
            inputs=[
                DataInput("real", REAL),
                DataInput("ood-validation", OOD, context="validation"),
                DataInput(f"selected-{study.setup}", table, drawn.digest),
                *(
                    DataInput(name, f"{AUGMENTED}/{name}", context="training" if role == "positive" else "negatives")
                    for name, role in self.data.sets
                ),
            ],
            tags={"study": study.name} | told,
            parent_run_id=self.parent,
            experiment=STUDIES,
            name=name or f"{study.name}-trial{trial}",
        )

    def _logs(self, run: TrainingRun) -> Callable[[Measurement], None]:
        def measured(m: Measurement) -> None:
            run.log_metrics({"val_accuracy_knn": m.val_accuracy_knn, "loss": m.loss}, m.step)

        return measured

    def _listener(self, trial: optuna.Trial, run: TrainingRun) -> Callable[[Measurement], None]:
        """Logs the state of a training, and ends one that falls behind."""
        log = self._logs(run)

        def measured(m: Measurement) -> None:
            log(m)
            if self.params.study.mode == "constrained":
                trial.report(m.val_accuracy_knn, m.step)
                if trial.should_prune():
                    raise optuna.TrialPruned

        return measured

    def _tell(self, trial: optuna.Trial, drawn: Drawn, figures: dict[str, float]) -> float | tuple[float, float]:
        """Keep a trial's figures with it; its values."""
        for name, value in figures.items():
            trial.set_user_attr(name, None if math.isnan(value) else value)
        trial.set_user_attr("train", drawn.train.model_dump(mode="json"))
        if drawn.table is not None:
            trial.set_user_attr("band", list(drawn.select.band))
        study = self.params.study
        if study.mode == "pareto":
            return figures["val_accuracy"], figures["near_ood_auroc"]
        excess = {
            "near_ood_auroc": study.min_ood_auroc - figures["near_ood_auroc"],
            "drift": figures["drift"] - study.max_drift,
        }
        for name, value in excess.items():
            if not math.isnan(value):
                trial.set_constraint(name, value)
        return figures["val_accuracy"]


def _taken(study: optuna.Study, mine: FrozenTrial) -> int:
    """Trials that are COMPLETE or were started before this one: with the target or more of them, it is one too many."""

    def place(trial: FrozenTrial) -> tuple[Any, int]:
        return trial.datetime_start, trial.number

    return sum(
        t.state == TrialState.COMPLETE or (t.state == TrialState.RUNNING and place(t) < place(mine))
        for t in study.get_trials(deepcopy=False)
    )
