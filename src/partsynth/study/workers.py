"""Hyper-parameter studies (Optuna; its only importer) on validation pictures alone: the test parts are never opened.

Any number of worker processes, on one machine or several, take trials from one storage until the study has its number
of COMPLETE trials. A trial is a nested MLflow run; its id is in the trial's user attributes, the parent's in the
study's. What a killed, interrupted or silent worker was at is tried again with the same parameters, and the MLflow
run of the dead attempt is marked as superseded.

Two modes: ``constrained`` maximises validation accuracy where near-OOD AUROC and drift keep their limits, and prunes;
``pareto`` looks for the front of accuracy and near-OOD AUROC, unpruned (Optuna prunes single objectives only).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partsynth.config.params import Params
from partsynth.config.study import Study
from partsynth.errors import UserError
from partsynth.store.hashing import seed_from
from partsynth.study import space
from partsynth.tracking.studies import end_run, open_study

if TYPE_CHECKING:
    pass
from partsynth.study.objective import Objective, Surplus
from partsynth.study.results import results
from partsynth.study.storage import fail_trial, load_study, open_storage, retry, revive, shown, worker_name

POLL = 1.0  # seconds between looks at what other workers are at
FAILURES = 3  # failed trials in a row after which a worker gives up


def run(params: Params, root: Path, workers: int = 1) -> dict[str, Any]:
    """Run, go on with, or join a study until it has ``params.study.trials`` COMPLETE trials; returns ``results``.

    The same command on another machine, with an RDB and an MLflow server both can reach, joins in. Ctrl-C loses
    nothing: trials in flight are put back in the queue.

    Raises
    ------
    UserError
        for unfinished data, storage out of reach, a study of the same name with other data or settings, trials that
        fail one after another, workers that died.
    """
    root = root.resolve()
    data = space.read_data(params, root)
    study, parent_run_id = _open(params, root, data)
    target = params.study.trials
    print(
        f"study {params.study.name}: {params.study.setup}, {params.study.mode}, {_complete(study)} of {target} trials "
        f"complete; {workers} worker(s), {shown(params.study.storage)}"
    )
    status = "KILLED"
    try:
        if workers == 1:
            _work(params, root, parent_run_id, 0, 1)
        else:
            _spawn(params, root, parent_run_id, workers)
        if (done := _complete(study)) < target:
            raise UserError(f"{done} of {target} trials are complete and no worker is left: run the command again")
        status = "FINISHED"
    finally:
        end_run(root, parent_run_id, status)
    print(f"study {params.study.name}: done; `partsynth study show` prints it and writes it for the report")
    return results(params, root)


def _open(params: Params, root: Path, data: space.Data) -> tuple[Any, str]:
    """The study, made with its baselines or gone on with, and its MLflow run."""
    import optuna

    storage = open_storage(params.study, root)
    pareto = params.study.mode == "pareto"
    study = optuna.create_study(
        study_name=params.study.name,
        storage=storage,
        directions=["maximize", "maximize"] if pareto else ["maximize"],
        load_if_exists=True,
    )
    identity = {
        "setup": params.study.setup,
        "mode": params.study.mode,
        "data": data.digests,
        "space": params.study.space.model_dump(mode="json"),
        "train": space.starting_point(params).model_dump(mode="json"),
        "min_ood_auroc": params.study.min_ood_auroc,
        "max_drift": params.study.max_drift,
    }
    known = study.user_attrs.get("identity")
    if known is None:
        study.set_user_attr("identity", identity)
        with contextlib.suppress(AttributeError):
            study.set_metric_names(["val_accuracy", "near_ood_auroc"] if pareto else ["val_accuracy"])
        for point in space.baselines(params, data):
            study.enqueue_trial(point, skip_if_exists=True)
    elif known != identity:
        changed = ", ".join(key for key in identity if known.get(key) != identity[key])
        raise UserError(
            f"study {params.study.name!r} in {shown(params.study.storage)} was begun with other values of: {changed}. "
            "Its trials cannot be compared with new ones: set study.name to a new name"
        )
    before = study.user_attrs.get("mlflow_run_id")
    tags = {"study": params.study.name, "setup": params.study.setup, "mode": params.study.mode}
    tags["storage"] = shown(params.study.storage)
    parent = open_study(root, params.study.name, tags, before)
    if before is None and study.user_attrs.get("mlflow_run_id") is None:
        study.set_user_attr("mlflow_run_id", parent)
    if (kept := study.user_attrs["mlflow_run_id"]) != parent:  # another machine began the study at the same moment
        end_run(root, parent, "KILLED", {"superseded_by": kept})
    return study, kept


def _complete(study: Any) -> int:
    import optuna

    return len(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)))


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and SIGINT raise KeyboardInterrupt once; what follows while the trial is put back is ignored."""

    def stop(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    try:
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals go elsewhere
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _spawn(params: Params, root: Path, parent_run_id: str, workers: int) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_work_alone, args=(params, root, parent_run_id, index, workers))
        for index in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join()
    except KeyboardInterrupt:
        for process in processes:
            if process.is_alive():
                process.terminate()
        for process in processes:
            process.join(timeout=60)
        raise
    for index, process in enumerate(processes):
        if process.exitcode:
            how = f"was killed by signal {-process.exitcode}" if process.exitcode < 0 else "failed"
            print(f"study {params.study.name}: worker {index} {how}")


def _work_alone(params: Params, root: Path, parent_run_id: str, index: int, workers: int) -> None:
    try:
        _work(params, root, parent_run_id, index, workers)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except UserError as error:
        print(f"study {params.study.name}, worker {index}: {error}")
        raise SystemExit(1) from None


def _work(params: Params, root: Path, parent_run_id: str, index: int, workers: int) -> None:
    """Take trials until the study has enough."""
    import optuna
    from optuna.trial import TrialState

    settings = params.study
    with _stoppable():
        study = load_study(settings, root)
        # one seed for two workers, or for a second start, would draw the same points again
        begun = len(study.get_trials(deepcopy=False))
        others = [] if index == 0 and begun <= 3 else [worker_name()]
        study.sampler = optuna.samplers.TPESampler(
            seed=seed_from("study", settings.seed, index, begun, *others) % 2**32
        )
        study.pruner = optuna.pruners.NopPruner()
        if settings.mode == "constrained":
            study.pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=params.train.steps // 3)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        objective = Objective(params, root, space.read_data(params, root), parent_run_id, max(1, cores // workers))
        failures = 0
        while True:
            revive(study, heartbeats="://" in settings.storage)
            states = [t.state for t in study.get_trials(deepcopy=False)]
            if states.count(TrialState.COMPLETE) >= settings.trials:
                return
            if states.count(TrialState.COMPLETE) + states.count(TrialState.RUNNING) >= settings.trials:
                time.sleep(POLL)  # others are at the last trials; should they die, theirs come here
                continue
            failures = _one(study, objective, settings, failures)


def _one(study: Any, objective: Objective, settings: Study, failures: int) -> int:
    """One trial; returns how many failed in a row."""
    from optuna.trial import TrialState

    begun = time.perf_counter()
    last: list[Any] = []
    try:
        study.optimize(objective, n_trials=1, catch=(Surplus,), callbacks=[lambda _, trial: last.append(trial)])
    except (KeyboardInterrupt, UserError):
        _put_back(study)
        raise
    except Exception as error:
        _put_back(study)
        failures += 1
        if failures >= FAILURES:
            raise UserError(
                f"{failures} trials failed one after another, the last with {type(error).__name__}: {error}"
            ) from error
        print(f"study {settings.name}: a trial failed with {type(error).__name__}: {error}")
        return failures
    trial = last[0]
    if trial.state == TrialState.COMPLETE:
        near = trial.user_attrs.get("near_ood_auroc")
        told = f"accuracy {trial.values[0]:.3f}" + (f", near-OOD AUROC {near:.3f}" if near is not None else "")
    else:
        told = "not needed, another worker was first" if trial.user_attrs.get("surplus") else trial.state.name.lower()
    print(f"study {settings.name}: trial {trial.number} {told} ({time.perf_counter() - begun:.0f} s)")
    return 0


def _put_back(study: Any) -> None:
    """The trial that this process gave up is FAIL by now; queue its parameters again."""
    from optuna.trial import TrialState

    mine = worker_name()
    for trial in reversed(study.get_trials(deepcopy=False)):
        if trial.user_attrs.get("worker") == mine:
            if trial.state == TrialState.RUNNING and not fail_trial(study, trial):
                return
            if trial.state in (TrialState.RUNNING, TrialState.FAIL) and not trial.user_attrs.get("surplus"):
                retry(study, trial)
            return
