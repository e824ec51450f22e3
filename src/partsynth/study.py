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
import copy
import hashlib
import io
import math
import multiprocessing
import os
import platform
import re
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partsynth import search, tracking
from partsynth.params import Params, SelectSetup, Study, Train
from partsynth.records import (
    SelectedRecord,
    UserError,
    fingerprint,
    read_manifest,
    seed_from,
    write_json,
    write_text_atomic,
)

if TYPE_CHECKING:
    import optuna

TABLE = "lineage/selected.csv"  # artifact of a trial with a band of its own
RESULTS = Path("reports/studies")  # <name>.json, read by the report stage
POLL = 1.0  # seconds between looks at what other workers are at
STARTING = 60.0  # seconds within which a worker has put its name to a trial it took
RETRIES = 3  # attempts at a trial beyond the first
FAILURES = 3  # failed trials in a row after which a worker gives up


class _Surplus(Exception):
    """Another worker took the last open trial at the same moment."""


# --- one trial ----------------------------------------------------------------------------------------------------


class Objective:
    """Train with a trial's parameters and score on validation pictures; one object a worker process."""

    def __init__(self, params: Params, root: Path, data: search.Data, parent_run_id: str, threads: int) -> None:
        self.params, self.root, self.data, self.parent = params, root, data, parent_run_id
        self.threads = threads
        self._ood = self._load_ood()

    def _load_ood(self) -> dict[str, Any]:
        import numpy as np

        from partsynth.kernel import encoder
        from partsynth.records import read_picture

        size = self.params.train.size
        return {
            part: np.stack([np.asarray(encoder.resize(read_picture(self.root, row), size)) for row in rows])
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
            raise _Surplus
        origin = optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number(frozen)
        attempt_before = frozen.user_attrs.get("mlflow_run_id")  # inherited from the attempt that this one repeats
        limits = search.ranges(self.params, self.data)
        values = {name: trial.suggest_float(name, low, high, log=log) for name, (low, high, log) in limits.items()}
        train, select = search.settings(self.params, values)
        rows, table, digest = self._rows(select)
        drift = search.anchor_drift(rows, train)
        identity = fingerprint([study.name, trial.number if origin is None else origin, train, select, digest])
        inputs = [
            tracking.DataInput("real", search.REAL),
            tracking.DataInput("ood-validation", search.OOD, None, "validation"),
            tracking.DataInput(f"selected-{study.setup}", self.data.table if table is None else TABLE, digest),
            *(tracking.DataInput(name, f"data/augmented/{name}", None, "training" if role == "positive" else "negatives")
              for name, role in self.data.sets),
        ]  # fmt: skip
        logged = {"train": train.model_dump(mode="json"), "setup": study.setup, "seed": study.seed}
        if table is not None:
            logged["select"] = select.model_dump(mode="json")
        tags = {"study": study.name, "trial": trial.number}
        if origin is not None:
            tags["retry_of"] = origin
        unfinished: Exception | None = None
        with tracking.training_run(
            self.root, "study", study.setup, study.seed, identity, logged, inputs, tags,
            parent_run_id=self.parent, experiment=tracking.STUDIES, name=f"{study.name}-trial{trial.number}",
        ) as run:  # fmt: skip
            trial.set_user_attr("mlflow_run_id", run.run_id)
            if attempt_before:
                tracking.end_run(self.root, attempt_before, "KILLED", {"superseded_by": run.run_id})
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
        from partsynth.steps import select as step

        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "selected.csv")
            onto, manifest, verdicts = (self.root / path for path in self.data.band)
            real = self.root / search.REAL / "manifest.csv"
            with contextlib.redirect_stdout(io.StringIO()):  # what the stage tells of itself
                step.run(select, self.params.study.setup, onto, manifest, verdicts, out, real)
            table = out.read_bytes()
            rows = tuple(read_manifest(out, SelectedRecord))
        return rows, table, hashlib.md5(table, usedforsecurity=False).hexdigest()

    def _score(
        self, trial: optuna.Trial, train: Train, rows: tuple[SelectedRecord, ...], run: tracking.TrainingRun
    ) -> dict[str, float]:
        import optuna
        import torch

        from partsynth.steps import train as step

        pictures = step.load_pictures(rows, self.data.validation, train.size, self.root)
        accelerator = step.make_accelerator(train)
        torch.set_num_threads(self.threads)

        def measured(m: Any) -> None:
            run.log_metrics({"val_accuracy_knn": m.val_accuracy_knn, "loss": m.loss}, m.step)
            if self.params.study.mode == "constrained":
                trial.report(m.val_accuracy_knn, m.step)
                if trial.should_prune():
                    raise optuna.TrialPruned

        try:
            fitted = step.fit(pictures, train, self.params.study.seed, accelerator, measured)
        except step.NonFinite as error:
            raise _Diverged(str(error)) from None
        return {"val_accuracy": fitted.metrics["val_accuracy"]} | self._ood_figures(fitted.model, pictures)

    def _ood_figures(self, model: Any, pictures: Any) -> dict[str, float]:
        """AUROC of near and far OOD-validation against real validation pictures by the evaluation's kNN score."""
        import numpy as np

        from partsynth.kernel import encoder, metrics, ood
        from partsynth.steps.evaluate import Embedded, choose_k

        real = np.flatnonzero(~pictures.is_synthetic & ~pictures.is_negative)
        shown = {"train": pictures.images[real], "val": pictures.val_images, **self._ood}
        seen = {}
        for part, images in shown.items():
            features, logits = encoder.embed(model, images)
            seen[part] = Embedded(features.double().numpy(), logits.double().numpy())
        weight, bias = (p.detach().double().numpy() for p in (model.classifier.weight, model.classifier.bias))
        detectors = ood.fit(seen["train"].features, pictures.labels[real], weight, bias)
        k, _ = choose_k(self.params.evaluate.k, detectors, seen, pictures.val_labels)
        distance = {part: ood.neighbours(detectors, seen[part].features, k)[0][:, -1] for part in seen if part != "train"}
        return {
            f"{kind}_ood_auroc": metrics.auroc(distance["val"], distance[part]) if part in distance else math.nan
            for kind, part in (("near", "near_val"), ("far", "far_val"))
        }


class _Diverged(Exception):
    """The loss became no number: counts as pruned, so that the sampler keeps away from there."""


# --- storage ------------------------------------------------------------------------------------------------------


def worker_name() -> str:
    """host:pid:start of the process, which no later process shares."""
    import psutil

    return f"{platform.node()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def _is_dead(worker: str) -> bool:
    """Whether a worker of this host is gone; of other hosts nothing is known."""
    import psutil

    host, pid, started = worker.rsplit(":", 2)
    if host != platform.node():
        return False
    try:
        process = psutil.Process(int(pid))
        # a killed worker stays a zombie until its parent looks
        return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - float(started)) > 1
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def shown(url: str) -> str:
    """A storage address without its password."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", url)


def open_storage(study: Study, root: Path) -> Any:
    """A journal file (any number of processes of one host), or an RDB with heartbeats (any number of hosts)."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    if "://" not in study.storage:
        path = root / study.storage
        path.parent.mkdir(parents=True, exist_ok=True)
        backend = optuna.storages.journal.JournalFileBackend(str(path))
        return optuna.storages.JournalStorage(backend)
    url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", study.storage)  # the driver that is installed
    try:
        return optuna.storages.RDBStorage(
            url,
            heartbeat_interval=study.heartbeat,
            grace_period=3 * study.heartbeat,
            heartbeat_stale_trial_callback=retry,
            engine_kwargs={"pool_pre_ping": True},
        )
    except (SQLAlchemyError, ImportError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"cannot open study.storage {shown(study.storage)}: {shown(first)}") from None


def retry(study: Any, trial: Any) -> None:
    """Queue a dead attempt's parameters again. Of its attributes the new one keeps the MLflow run alone: with the dead
    worker's name on it, it would be taken for dead as well."""
    import optuna

    again = copy.deepcopy(trial)
    again.user_attrs = {k: v for k, v in trial.user_attrs.items() if k == "mlflow_run_id"}
    optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)(study, again)


def load_study(params: Study, root: Path) -> Any:
    """An existing study, for reading.

    Raises
    ------
    UserError
        where the storage has none of this name.
    """
    import optuna

    if "://" not in params.storage and not (root / params.storage).is_file():
        raise UserError(f"there is no study yet: {root / params.storage} is missing (partsynth study run)")
    storage = open_storage(params, root)
    try:
        return optuna.load_study(study_name=params.name, storage=storage)
    except KeyError:
        known = ", ".join(sorted(s.study_name for s in optuna.get_all_study_summaries(storage))) or "none"
        raise UserError(f"no study {params.name!r} in {shown(params.storage)}; it has {known}") from None


def revive(study: Any, heartbeats: bool) -> None:
    """Give the trials of dead workers to others: this host's by their process, an RDB's by their heartbeat."""
    import optuna

    optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if worker := trial.user_attrs.get("worker"):
            dead = _is_dead(worker)
        else:  # killed between taking the trial and putting its name to it; an RDB's heartbeat tells
            dead = not heartbeats and datetime.now() - trial.datetime_start > timedelta(seconds=STARTING)
        if dead and _fail(study, trial) and not trial.user_attrs.get("surplus"):
            retry(study, trial)


def _fail(study: Any, trial: Any) -> bool:
    """Mark a trial FAIL; False where another worker did so first."""
    import optuna

    try:
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        return False
    return True


def _taken(study: Any, mine: Any) -> int:
    """Trials that are COMPLETE or were started before this one: with the target or more of them, it is one too many."""
    from optuna.trial import TrialState

    place = (mine.datetime_start, mine.number)
    return sum(
        t.state == TrialState.COMPLETE
        or (t.state == TrialState.RUNNING and (t.datetime_start, t.number) < place)
        for t in study.get_trials(deepcopy=False)
    )


# --- running --------------------------------------------------------------------------------------------------------


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
    data = search.read_data(params, root)
    study, parent_run_id = _open(params, root, data)
    target = params.study.trials
    print(f"study {params.study.name}: {params.study.setup}, {params.study.mode}, {_complete(study)} of {target} trials "
          f"complete; {workers} worker(s), {shown(params.study.storage)}")  # fmt: skip
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
        tracking.end_run(root, parent_run_id, status)
    print(f"study {params.study.name}: done; `partsynth study show` prints it and writes it for the report")
    return results(params, root)


def _open(params: Params, root: Path, data: search.Data) -> tuple[Any, str]:
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
        "train": search.starting_point(params).model_dump(mode="json"),
        "min_ood_auroc": params.study.min_ood_auroc,
        "max_drift": params.study.max_drift,
    }
    known = study.user_attrs.get("identity")
    if known is None:
        study.set_user_attr("identity", identity)
        with contextlib.suppress(AttributeError):
            study.set_metric_names(["val_accuracy", "near_ood_auroc"] if pareto else ["val_accuracy"])
        for point in search.baselines(params, data):
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
    parent = tracking.open_study(root, params.study.name, tags, before)
    if before is None and study.user_attrs.get("mlflow_run_id") is None:
        study.set_user_attr("mlflow_run_id", parent)
    if (kept := study.user_attrs["mlflow_run_id"]) != parent:  # another machine began the study at the same moment
        tracking.end_run(root, parent, "KILLED", {"superseded_by": kept})
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
        context.Process(target=_work_alone, args=(params, root, parent_run_id, index, workers)) for index in range(workers)
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
        study.sampler = optuna.samplers.TPESampler(seed=seed_from("study", settings.seed, index, begun, *others) % 2**32)
        study.pruner = optuna.pruners.NopPruner()
        if settings.mode == "constrained":
            study.pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=params.train.steps // 3)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        objective = Objective(params, root, search.read_data(params, root), parent_run_id, max(1, cores // workers))
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
        study.optimize(objective, n_trials=1, catch=(_Surplus,), callbacks=[lambda _, trial: last.append(trial)])
    except (KeyboardInterrupt, UserError):
        _put_back(study)
        raise
    except Exception as error:
        _put_back(study)
        failures += 1
        if failures >= FAILURES:
            raise UserError(f"{failures} trials failed one after another, the last with "
                            f"{type(error).__name__}: {error}") from error  # fmt: skip
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
            if trial.state == TrialState.RUNNING and not _fail(study, trial):
                return
            if trial.state in (TrialState.RUNNING, TrialState.FAIL) and not trial.user_attrs.get("surplus"):
                retry(study, trial)
            return


# --- results ------------------------------------------------------------------------------------------------------


def results(params: Params, root: Path) -> dict[str, Any]:
    """Trials, the best, importance, Pareto front and history as plain values."""
    from optuna.trial import TrialState

    study = load_study(params.study, root)
    trials = [t for t in study.get_trials(deepcopy=False) if not t.user_attrs.get("surplus")]
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    feasible = [t for t in complete if all(value <= 0 for value in t.constraints.values())]
    pareto = len(study.directions) > 1
    front = _front(feasible) if pareto else []
    allowed = front if pareto else feasible
    if pareto:  # one answer out of a front: the most accurate that keeps the constrained mode's limit
        allowed = [t for t in front if t.values[1] >= params.study.min_ood_auroc] or front
    best = max(allowed, key=lambda t: (t.values[0], t.values[-1], -t.number), default=None)
    history, top = [], None
    for trial in sorted(complete, key=lambda t: (t.datetime_complete, t.number)):
        if trial in feasible and (top is None or trial.values[0] > top):
            top = trial.values[0]
        history.append({"trial": trial.number, "val_accuracy": trial.values[0], "best": top})
    return {
        "study": params.study.name,
        "setup": study.user_attrs.get("identity", {}).get("setup"),
        "mode": "pareto" if pareto else "constrained",
        "limits": {"near_ood_auroc": params.study.min_ood_auroc, "drift": params.study.max_drift},
        "mlflow_run_id": study.user_attrs.get("mlflow_run_id"),
        "data": study.user_attrs.get("identity", {}).get("data"),
        "counts": {state.name.lower(): n for state in TrialState if (n := sum(t.state == state for t in trials))},
        "best": None if best is None else best.number,
        "pareto": [t.number for t in front],
        "importance": _importance(study, complete),
        "history": history,
        "trials": [_trial(t, t in feasible) for t in trials],
    }


def _front(trials: list[Any]) -> list[Any]:
    """Trials that no other is at least as good as in both values and better in one."""
    def beats(a: Any, b: Any) -> bool:
        return all(x >= y for x, y in zip(a.values, b.values, strict=True)) and a.values != b.values

    return [t for t in trials if not any(beats(other, t) for other in trials)]


def _importance(study: Any, complete: list[Any]) -> dict[str, float]:
    """Share of the accuracy's variation that each parameter explains (Optuna's evaluator); empty for too few trials."""
    import optuna

    if len(complete) < 4 or len({t.values[0] for t in complete}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it asks what makes values low: so they are turned round
        try:
            found = optuna.importance.get_param_importances(study, target=lambda t: -t.values[0])
        except (ValueError, RuntimeError):
            return {}
    return {name: float(value) for name, value in found.items()}


def _trial(trial: Any, feasible: bool) -> dict[str, Any]:
    import optuna

    seconds = None
    if trial.datetime_complete and trial.datetime_start:
        seconds = round((trial.datetime_complete - trial.datetime_start).total_seconds(), 1)
    kept = ("near_ood_auroc", "far_ood_auroc", "drift", "band")
    return {
        "number": trial.number,
        "state": trial.state.name,
        "val_accuracy": trial.values[0] if trial.values else None,
        **{name: trial.user_attrs.get(name) for name in kept if name in trial.user_attrs},
        "feasible": feasible if trial.state.name == "COMPLETE" else None,
        "params": trial.params,
        "seconds": seconds,
        "mlflow_run_id": trial.user_attrs.get("mlflow_run_id"),
        "retry_of": optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number(trial),
    }


def show(params: Params, root: Path) -> Path:
    """Print table, importance, Pareto front and history, and write them to ``reports/studies/<name>.json``."""
    data = results(params, root)
    out = RESULTS / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', params.study.name)}.json"
    write_json(root / out, data)
    _print(data)
    print(f"wrote {out}; `dvc repro report` puts it into reports/index.html")
    return out


def _print(data: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    names = sorted({name for trial in data["trials"] for name in trial["params"]})
    rows = []
    order = sorted(data["trials"], key=lambda t: (t["state"] != "COMPLETE", -(t["val_accuracy"] or 0), t["number"]))
    for trial in order:
        marks = "*" if trial["number"] == data["best"] else "p" if trial["number"] in data["pareto"] else ""
        kept = {True: "yes", False: "no", None: ""}[trial["feasible"]]
        figures = [_number(trial.get(name)) for name in ("val_accuracy", "near_ood_auroc", "drift")]
        values = [_number(trial["params"].get(name)) for name in names]
        rows.append([f"{trial['number']}{marks}", trial["state"].lower(), *figures, kept, *values])
    counts = ", ".join(f"{n} {state}" for state, n in data["counts"].items())
    table = Table(title=f"study {data['study']}: {data['setup']}, {data['mode']} ({counts})")
    told = ("trial", "state", "val accuracy", "near AUROC", "drift", "limits kept", *names)
    heads = [name.replace("_", " ") for name in told]
    cells = zip(*rows, strict=True) if rows else [()] * len(heads)
    # headings break between words, never within; a terminal too narrow folds lines, but nothing is cut off
    widths = [max(map(len, [*head.split(), *column])) for head, column in zip(heads, cells, strict=True)]
    for head, width in zip(heads, widths, strict=True):
        table.add_column(head, justify="right", width=width)
    for row in rows:
        table.add_row(*row)
    console = Console(width=max(Console().width, sum(widths) + 3 * len(widths) + 1))
    console.print(table)
    best = "no trial keeps the limits" if data["best"] is None else f"best: trial {data['best']} (*)"
    console.print(best + (f"; Pareto front: {', '.join(map(str, data['pareto']))} (p)" if data["pareto"] else ""))
    for name, share in sorted(data["importance"].items(), key=lambda item: -item[1]):
        console.print(f"  {name:22s} {'#' * round(40 * share)} {share:.2f}")
    steps = [h for i, h in enumerate(data["history"]) if i == 0 or h["best"] != data["history"][i - 1]["best"]]
    if steps:
        console.print("best accuracy so far: " + ", ".join(f"{_number(h['best'])} at trial {h['trial']}" for h in steps))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def apply(params: Params, root: Path, out: Path, trial: int | None = None) -> Path:
    """Write params.yaml with a trial's parameters (the best one's by default) to a new preset file ``out``.

    params.yaml itself is left alone: compare the two files, then copy.

    Raises
    ------
    UserError
        where no trial keeps the limits, ``trial`` is not COMPLETE, or ``out`` exists or is params.yaml.
    """
    import yaml

    source, target = root / "params.yaml", out if out.is_absolute() else root / out
    if target.resolve() == source.resolve():
        raise UserError("study apply never writes params.yaml: name a new file, e.g. --out presets/tuned.yaml")
    if target.exists():
        raise UserError(f"{target} exists: name a new file")
    data = results(params, root)
    chosen = data["best"] if trial is None else trial
    if chosen is None:
        raise UserError(f"no trial of study {params.study.name} keeps the limits: more trials, or other limits")
    found = next((t for t in data["trials"] if t["number"] == chosen and t["state"] == "COMPLETE"), None)
    if found is None:
        complete = ", ".join(str(t["number"]) for t in data["trials"] if t["state"] == "COMPLETE") or "none"
        raise UserError(f"trial {chosen} is not complete; those that are: {complete}")
    train, _ = search.settings(params, found["params"])
    start = search.starting_point(params)
    tuned = {key: value for key, value in train.model_dump(mode="json").items() if value != getattr(start, key)}
    content = yaml.safe_load(source.read_text())
    own = ((content.get("select") or {}).get(data["setup"]) or {}).get("train") or {}  # it wins over section train
    own |= {key: tuned.pop(key) for key in own.keys() & tuned.keys()}
    content["train"] = (content.get("train") or {}) | tuned
    if found.get("band"):
        content["select"][data["setup"]]["band"] = found["band"]
    near = found.get("near_ood_auroc")
    head = (
        f"# Trial {chosen} of study {data['study']} ({data['setup']}, {data['mode']}): validation accuracy "
        f"{found['val_accuracy']:.4f}" + (f", near-OOD AUROC {near:.4f}" if near is not None else "")
        + f".\n# MLflow run {found['mlflow_run_id']}. Made by partsynth study apply from params.yaml.\n"
    )
    write_text_atomic(target, head + yaml.safe_dump(content, sort_keys=False, width=120))
    return target
