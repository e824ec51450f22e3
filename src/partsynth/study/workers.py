"""Hyperparameter studies (Optuna) on validation images alone: the test parts are never opened.

Any number of worker processes, on one machine or several, take trials from one storage until the study has its number
of COMPLETE trials. A trial is a nested MLflow run; its id is in the trial's user attributes, the parent's in the
study's. What a killed, interrupted or silent worker was at is tried again with the same parameters, and the MLflow
run of the dead attempt is marked as superseded.

Two modes: ``constrained`` maximises validation accuracy where near-OOD AUROC and drift keep their limits, and prunes;
``pareto`` looks for the front of accuracy and near-OOD AUROC, unpruned (Optuna prunes single objectives only).
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from partsynth.config.params import Params
from partsynth.config.study import Study
from partsynth.errors import UserError
from partsynth.lineage.status import outdated_stages
from partsynth.records.study import StudyResults
from partsynth.store import process
from partsynth.store.hashing import seed_from
from partsynth.study import retrain, space
from partsynth.study.create import open_or_create
from partsynth.study.objective import Objective, Surplus
from partsynth.study.results import results
from partsynth.study.retries import put_back, revive
from partsynth.study.storage import is_database, load_study, shown
from partsynth.tracking.studies import end_run, settle
from partsynth.tracking.views import Status
from partsynth.training.result import NonFinite

POLL = 1.0  # seconds between looks at what other workers are at
PATIENCE = 60.0  # seconds that interrupted workers have to put their trials back
PRUNED = 20  # pruned trials in a row after which a study is given up, or twice the number it wants
FAILURES = 3  # failed trials in a row after which a worker gives up


@dataclass(frozen=True)
class Worker:
    """One of ``workers`` processes of a machine."""

    params: Params
    root: Path
    parent_run_id: str
    index: int = 0
    workers: int = 1

    @property
    def threads(self) -> int:
        return max(1, process.cores() // self.workers)


def run_study(params: Params, root: Path, workers: int = 1) -> StudyResults:
    """Run, go on with, or join a study until it has ``params.study.trials`` COMPLETE trials.

    The same command on another machine, with an RDB and an MLflow server both can reach, joins in. Ctrl-C loses
    nothing: trials in flight are put back in the queue.

    Raises
    ------
    UserError
        for unfinished data, stages that are out of date, storage out of reach, a study of the same name with other
        data or settings, trials that fail one after another, workers that died.
    """
    root = root.resolve()
    data, settings = space.read_data(params, root), params.study
    if stale := outdated_stages(root, f"select@{params.study.setup}"):
        raise UserError(
            f"a study of {params.study.setup} needs data that is up to date; out of date: {', '.join(stale)} "
            f"(dvc repro select@{params.study.setup})"
        )
    study, parent_run_id = open_or_create(params, root, data)
    complete = _complete(study)
    settle(root, parent_run_id, {str(trial.user_attrs.get("mlflow_run_id")) for trial in complete})
    print(
        f"study {settings.name}: {settings.setup}, {settings.mode}, {len(complete)} of {settings.trials} trials "
        f"complete; {workers} worker(s), {shown(settings.storage)}"
    )
    status: Status = "KILLED"
    with process.stoppable() as stop:
        try:
            if workers == 1:
                _work(Worker(params, root, parent_run_id), stop)
            else:
                _spawn([Worker(params, root, parent_run_id, index, workers) for index in range(workers)])
            if (done := len(_complete(study))) < settings.trials:
                raise UserError(
                    f"{done} of {settings.trials} trials are complete and no worker is left: run the command again"
                )
            status = "FINISHED"
        finally:
            end_run(root, parent_run_id, status)
    print(f"study {settings.name}: done; `partsynth study show` prints it and writes it for the report")
    return results(params, root)


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _spawn(workers: list[Worker]) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_work_alone, args=(worker,)) for worker in workers]
    try:
        for child in processes:
            child.start()
        for child in processes:
            child.join()
    except KeyboardInterrupt:
        for child in processes:
            if child.is_alive():
                child.terminate()
        for child in processes:
            if child.pid is not None:
                child.join(timeout=PATIENCE)
        raise
    for worker, child in zip(workers, processes, strict=True):
        if child.exitcode:
            how = f"was killed by signal {-child.exitcode}" if child.exitcode < 0 else "failed"
            print(f"study {worker.params.study.name}: worker {worker.index} {how}")


def _work_alone(worker: Worker) -> None:
    """The whole of a worker's process."""
    process.keep_memory()
    try:
        with process.stoppable() as stop:
            _work(worker, stop)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except UserError as error:
        print(f"study {worker.params.study.name}, worker {worker.index}: {error}")
        raise SystemExit(1) from None


def _work(worker: Worker, stop: process.Stop) -> None:
    """Take trials until the study has enough, or this process is asked to stop."""
    params, settings = worker.params, worker.params.study
    study = load_study(settings, worker.root)
    _draw_by(worker, study)
    data = space.read_data(params, worker.root)
    objective = Objective(params, worker.root, data, worker.parent_run_id, worker.threads)
    failures = 0
    while True:
        stop.obey()
        revive(study, heartbeats=is_database(settings))
        states = [t.state for t in study.get_trials(deepcopy=False)]
        if states.count(TrialState.COMPLETE) >= settings.trials:
            _retrain(study, objective, worker, stop)
            return
        if states.count(TrialState.COMPLETE) + states.count(TrialState.RUNNING) >= settings.trials:
            time.sleep(POLL)  # others are at the last trials; should they die, theirs come here
            continue
        _refuse_endless_pruning(states, settings)
        failures = _one(study, objective, settings.name, failures, stop)


def _retrain(study: optuna.Study, objective: Objective, worker: Worker, stop: process.Stop) -> None:
    """Train the best trials again on new seeds; what is done stays done, whoever is killed."""
    settings = worker.params.study
    for trial, seed in retrain.open_jobs(study, settings, worker.index):
        stop.obey()
        try:
            figures = objective.again(trial, seed)
        except NonFinite as error:
            print(f"study {settings.name}: trial {trial.number} on seed {seed}: {error}")
            figures = {"val_accuracy": 0.0, "near_ood_auroc": 0.0}
        study.set_user_attr(retrain.key(trial, seed), retrain.plain(figures))
        told = f"accuracy {figures['val_accuracy']:.3f} ({trial.values[0]:.3f} before)"
        print(f"study {settings.name}: trial {trial.number} on a new seed: {told}")


def _refuse_endless_pruning(states: Sequence[TrialState], settings: Study) -> None:
    """
    Raises
    ------
    UserError
        where so many trials in a row were pruned that the study would not end.
    """
    ended = [state for state in states if state in (TrialState.COMPLETE, TrialState.PRUNED)]
    row = next((n for n, state in enumerate(reversed(ended)) if state == TrialState.COMPLETE), len(ended))
    if row >= max(PRUNED, 2 * settings.trials):
        raise UserError(
            f"the last {row} trials were all pruned, and {ended.count(TrialState.COMPLETE)} of {settings.trials} are "
            "complete: the study would not end. Their runs in MLflow say why (tag `why`); narrow study.space under a "
            "new study.name, or set study.trials to what is complete"
        )


def _draw_by(worker: Worker, study: optuna.Study) -> None:
    """Give the study its sampler and its pruner."""
    settings = worker.params.study
    # one seed for two workers, or for a second start, would draw the same points again
    begun = len(study.get_trials(deepcopy=False))
    others = [] if worker.index == 0 and begun <= 3 else [process.identity()]
    seed = seed_from("study", settings.seed, worker.index, begun, *others) % 2**32
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    study.pruner = optuna.pruners.NopPruner()
    if settings.mode == "constrained":
        study.pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=worker.params.train.steps // 3)


def _one(study: optuna.Study, objective: Objective, name: str, failures: int, stop: process.Stop) -> int:
    """One trial; returns how many failed in a row."""
    begun, last = time.perf_counter(), list[FrozenTrial]()
    try:
        study.optimize(objective, n_trials=1, catch=(Surplus,), callbacks=[lambda _, trial: last.append(trial)])
    except (KeyboardInterrupt, UserError):
        put_back(study)
        raise
    except Exception as error:
        put_back(study)
        stop.obey()
        failures += 1
        if failures >= FAILURES:
            raise UserError(
                f"{failures} trials failed one after another, the last with {type(error).__name__}: {error}"
            ) from error
        print(f"study {name}: a trial failed with {type(error).__name__}: {error}")
        return failures
    (trial,) = last
    if trial.state == TrialState.COMPLETE:
        near = trial.user_attrs.get("near_ood_auroc")
        how = f"accuracy {trial.values[0]:.3f}" + (f", near-OOD AUROC {near:.3f}" if near is not None else "")
    else:
        how = "not needed, another worker was first" if trial.user_attrs.get("surplus") else trial.state.name.lower()
    print(f"study {name}: trial {trial.number} {how} ({time.perf_counter() - begun:.0f} s)")
    return 0
