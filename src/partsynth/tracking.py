"""The only importer of mlflow: a sink that runs write to. The pipeline reads nothing back from it; people and audits do.

A training run carries its commit, fingerprint, device, one dataset input per data set whose digest is DVC's md5, and
its own copy of the resolved stage graph (artifact folder ``lineage``). The client's explicit run ids are used
throughout, so MLFLOW_RUN_ID and the fluent interface's thread-local run cannot redirect a nested run.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import importlib.metadata
import itertools
import json
import logging
import math
import os
import platform
import sqlite3
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from partsynth import lineage, sheets
from partsynth.objects import Objects, md5_file
from partsynth.records import (
    SelectedRecord,
    UserError,
    read_manifest,
    sha256_bytes,
    sha256_file,
    sha256_tree,
)

EXPERIMENT = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "partsynth"  # of training runs
STUDIES = "partsynth-studies"  # the experiment of studies and their trials
MODEL = "partsynth"  # name in the model registry
LIVE = ("FINISHED", "RUNNING")
PARENT = "mlflow.parentRunId"
ADDRESSES = (  # table and column of MLflow's SQLite store where artifacts' addresses stand
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
SAMPLING_INTERVAL = 5.0  # seconds between system metrics


@dataclass(frozen=True)
class DataInput:
    """A data set that a run used; ``digest`` (DVC's md5, a folder's ends in .dir) is looked up in dvc.lock if None."""

    name: str
    path: str  # relative to the repository's root, with slashes
    digest: str | None = None
    context: str = "training"


@dataclass(frozen=True)
class RunView:
    """What is stored of one run."""

    run_id: str
    name: str
    status: str  # RUNNING | FINISHED | FAILED | KILLED
    experiment: str
    start_time: int  # milliseconds since 1970
    end_time: int | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    inputs: tuple[DataInput, ...] = field(default=())

    @property
    def live(self) -> bool:
        """Neither failed nor replaced by a rerun."""
        return self.status in LIVE and "superseded_by" not in self.tags


# --- the store ----------------------------------------------------------------------------------------------------


def tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI where set, else the SQLite file at the home of ``root`` (absolute: stages, experiments in
    temporary copies and the UI must meet in one store)."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{lineage.home(root) / 'mlflow.db'}"


def _mlflow() -> Any:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
    for name in ("mlflow", "mlflow.store.db.utils", "mlflow.system_metrics.system_metrics_monitor", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)  # mlflow sets its own levels while it is imported
    return mlflow


def client(root: Path) -> Any:
    """The project's ``mlflow.MlflowClient``."""
    uri, mlflow = tracking_uri(root), _mlflow()
    if uri.startswith("sqlite:///"):
        database = Path(uri.removeprefix("sqlite:///"))
        _found(mlflow, database)
        named = os.environ.get("MLFLOW_TRACKING_URI")  # else it is the project's own: no need to ask git again
        if not named or database == lineage.home(root) / "mlflow.db":  # not a store that several projects share
            _follow(database, database.with_name("mlartifacts"))
    _forget_others(uri)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


@functools.lru_cache(maxsize=1)
def _forget_others(uri: str) -> None:
    """When the store changes: MLflow writes to the folder it remembers by a run's id, were it that of another copy."""
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()


def _found(mlflow: Any, database: Path) -> None:
    """Make a missing database beside its place and move it there whole: MLflow cannot go on from half its tables."""
    if database.is_file():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    draft = database.with_name(f"{database.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        mlflow.MlflowClient(tracking_uri=f"sqlite:///{draft}").search_experiments(max_results=1)
        with contextlib.suppress(FileExistsError):  # another process was first
            os.link(draft, database)
    finally:
        draft.unlink(missing_ok=True)


@functools.cache
def _follow(database: Path, artifacts: Path) -> None:
    """Make a moved or copied project's store point to its own artifacts: MLflow keeps their absolute addresses.

    Raises
    ------
    UserError
        where the store cannot be changed.
    """
    if not artifacts.is_dir():
        return
    here = artifacts.as_uri()
    try:
        with contextlib.closing(sqlite3.connect(database)) as store, store:
            known = [address for (address,) in store.execute("SELECT artifact_location FROM experiments") if address]
            folders = {address.rpartition("/")[0] for address in known}
            there = sorted(f for f in folders if f.startswith("file:") and f.endswith(f"/{artifacts.name}") and f != here)
            for old, (table, column) in itertools.product(there, ADDRESSES):
                store.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (here, len(old) + 1, len(old) + 1, f"{old}/"),
                )
    except sqlite3.Error as error:
        raise UserError(f"{database} names a former folder of its project and cannot be changed: {error}") from None


def experiment_id(root: Path, name: str = EXPERIMENT) -> str:
    """The experiment's id, made where it is missing (two processes may do so at once)."""
    mlflow = _mlflow()
    store = client(root)
    location = None
    if tracking_uri(root).startswith("sqlite"):  # a server decides by itself
        location = (lineage.home(root) / "mlartifacts" / name).as_uri()
    if (found := store.get_experiment_by_name(name)) is None:
        try:
            return store.create_experiment(name, artifact_location=location)
        except mlflow.MlflowException:
            if (found := store.get_experiment_by_name(name)) is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise UserError(f"MLflow experiment {name!r} is deleted: restore it in the UI, or name another one")
    return found.experiment_id


# --- data inputs --------------------------------------------------------------------------------------------------


@functools.cache
def _source_class() -> type:
    """The class is made on first use: importing this module must not import mlflow."""
    from mlflow.data.dataset_source import DatasetSource

    class DvcDatasetSource(DatasetSource):
        """A file or folder kept by DVC, named by its path and md5: it reads back whatever the workspace holds now."""

        def __init__(self, path: str, md5: str, root: str | None = None) -> None:
            self.path, self.md5, self.root = path, md5, root

        @staticmethod
        def _get_source_type() -> str:
            return "dvc"

        def load(self, destination: str | None = None) -> Path:
            """Check the data out by hash from cache or remote, every file verified; returns where it lies."""
            target = Path(destination or tempfile.mkdtemp(prefix="partsynth-")) / self.path
            with Objects(Path(self.root or ".")) as objects:
                objects.fetch([self.md5])
                objects.restore(self.md5, target)
            return target

        @staticmethod
        def _can_resolve(raw_source: Any) -> bool:
            return False  # a path alone does not say which version

        @classmethod
        def _resolve(cls, raw_source: Any) -> DvcDatasetSource:
            raise UserError("a DVC source is made from a path and an md5")

        def to_dict(self) -> dict[str, Any]:
            return {"path": self.path, "md5": self.md5, "root": self.root}

        @classmethod
        def from_dict(cls, source_dict: dict[Any, Any]) -> DvcDatasetSource:
            return cls(source_dict["path"], source_dict["md5"], source_dict.get("root"))

    DvcDatasetSource.__module__, DvcDatasetSource.__qualname__ = __name__, "DvcDatasetSource"
    return DvcDatasetSource


def __getattr__(name: str) -> Any:
    if name == "DvcDatasetSource":  # the entry point in group mlflow.dataset_source
        return _source_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def resolve_inputs(root: Path, inputs: list[DataInput], graph: dict[str, Any]) -> list[DataInput]:
    """Fill in digests, and add the data sets among the run's ancestors that the caller did not name.

    A plain file's digest is that of its bytes; a folder's is taken from dvc.lock.
    """
    stages = graph.get("stages", {})
    locked = lineage.read_lock(root)
    resolved = []
    for item in inputs:
        digest = item.digest
        if digest is None:
            path = root / item.path
            digest = md5_file(path) if path.is_file() else lineage.digest_of({**locked, **stages}, item.path)
        resolved.append(DataInput(item.name, item.path, digest, item.context))
    named = {item.path for item in inputs}
    outs = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", []) if "md5" in out}
    direct = {dep["path"] for dep in stages.get(graph.get("stage"), {}).get("deps", [])}
    for path, md5 in outs.items():
        is_set = path in ("data/real", "models/tokens") or lineage.covers("data/augmented", path)
        is_table = path in direct and lineage.covers("data/selected", path)  # which pictures, in which role
        if (is_set or is_table) and path not in named:
            context = "tokens" if path == "models/tokens" else "training"
            name = "selected" if is_table else path.rpartition("/")[2]
            resolved.append(DataInput(name, path, md5, context))
    return sorted(resolved, key=lambda item: item.path)


def _dataset_inputs(root: Path, inputs: list[DataInput]) -> list[Any]:
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag

    made = []
    for item in inputs:
        source = _source_class()(item.path, item.digest or "", str(lineage.home(root)))
        dataset = MetaDataset(source, name=item.name, digest=item.digest or "unknown")
        made.append(DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", item.context)]))
    return made


def _log_inputs(store: Any, run_id: str, inputs: list[Any], tries: int = 5) -> None:
    """MLflow looks for a data set and adds it where missing, in two steps: of two runs that begin together one fails,
    and finds the other's when it tries again."""
    mlflow = _mlflow()
    for left in reversed(range(tries)):
        try:
            store.log_inputs(run_id, datasets=inputs)
            return
        except mlflow.MlflowException:
            if not left:
                raise


# --- a run --------------------------------------------------------------------------------------------------------


class TrainingRun:
    """What a stage may write to while it trains."""

    def __init__(
        self, store: Any, run_id: str, identity: dict[str, Any], watch: Callable[[], Any] | None = None
    ) -> None:
        self._store = store
        self._watch = watch  # starts the system monitor
        self.monitor: Any = None
        self.run_id = run_id
        self.identity = identity  # run id, fingerprint, inputs and stage graph: goes into run.json
        self.status = "FINISHED"  # what the run ends as where nothing is raised; KILLED for a pruned trial

    def log_metrics(self, values: dict[str, float], step: int | None = None) -> None:
        """Numbers, in one call; non-finite ones are kept as they are (MLflow shows them)."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._store.log_batch(
            self.run_id, metrics=[Metric(name, float(value), now, step or 0) for name, value in values.items()]
        )
        # not before: MLflow's compare page opens on the metric that came first
        if self._watch is not None:
            self.monitor, self._watch = self._watch(), None

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """A file, or a folder with all below it."""
        self._store.log_artifact(self.run_id, str(path), folder or None)

    def log_model(self, folder: Path) -> None:
        """The trained model's folder as artifacts ``model/...`` (safetensors and JSON; nothing is pickled)."""
        self._store.log_artifacts(self.run_id, str(folder), "model")

    def set_tags(self, tags: dict[str, Any]) -> None:
        for name, value in tags.items():
            self._store.set_tag(self.run_id, name, value)


@contextlib.contextmanager
def training_run(
    root: Path,
    stage: str,
    setup: str,
    seed: int,
    fingerprint: str,
    params: dict[str, Any],
    inputs: list[DataInput],
    extra_tags: dict[str, Any] | None = None,
    parent_run_id: str | None = None,
    experiment: str = EXPERIMENT,
    name: str | None = None,
) -> Iterator[TrainingRun]:
    """One MLflow run round one training; works outside git and DVC too and says so in its tags.

    Parameters
    ----------
    root: the repository's root, the folder of dvc.yaml.
    stage: the stage's name; DVC_STAGE wins where DVC started this process.
    fingerprint: identity of all inputs. After success earlier runs of the same fingerprint (in the same experiment,
        with the same parent) get the tag ``superseded_by``; a run whose process died is marked KILLED.
    params: nested; logged flat as ``train.temperature``.
    inputs: the data sets used; those found among the stage's ancestors are added.
    name: the run's name, ``<setup>-seed<seed>`` by default.

    An exception inside marks the run FAILED, with tag ``why`` (KILLED for an interrupt), and goes on.
    """
    root = Path(root).resolve()
    _mlflow()
    store = client(root)
    resolved, graph, tags, files = _stamp(root, stage, inputs)
    tags |= {"setup": setup, "seed": seed, "fingerprint": fingerprint, "process": f"{platform.node()}:{os.getpid()}"}
    tags |= extra_tags or {}
    if parent_run_id:
        tags[PARENT] = parent_run_id
    run = store.create_run(
        experiment_id(root, experiment),
        tags={key: str(value) for key, value in tags.items()},
        run_name=name or f"{setup}-seed{seed}",
    )
    run_id = run.info.run_id
    tracked, status = None, "FAILED"
    try:
        _log_params(store, run_id, params)
        _log_inputs(store, run_id, _dataset_inputs(root, resolved))
        with tempfile.TemporaryDirectory() as folder:
            for file_name, data in files.items():
                Path(folder, file_name).write_bytes(data)
            store.log_artifacts(run_id, folder, "lineage")
        if parent_run_id is None:  # trials share their pictures
            _log_sheet(root, store, run_id, resolved)
        identity = {
            "run_id": run_id,
            "fingerprint": fingerprint,
            "setup": setup,
            "seed": seed,
            "tags": {key: str(value) for key, value in tags.items() if key != "process"},
            "inputs": [vars(item) for item in resolved],
            "lineage": graph,
            "files": {n: files[n].decode() for n in ("params.yaml", "dvc.yaml") if n in files},
        }
        tracked = TrainingRun(store, run_id, identity, lambda: _system_metrics(root, run_id))
        yield tracked
        status = tracked.status
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        status = "KILLED"
        raise
    except Exception as error:
        with contextlib.suppress(Exception):  # the store may be what failed
            store.set_tag(run_id, "why", f"{type(error).__name__}: {error}"[:1000])
        raise
    finally:
        if tracked is not None and tracked.monitor is not None:
            tracked.monitor.finish()
        store.set_terminated(run_id, status)
        if status == "FINISHED":
            _supersede(root, store, experiment, fingerprint, parent_run_id)


def _stamp(
    root: Path, stage: str, inputs: list[DataInput]
) -> tuple[list[DataInput], dict[str, Any], dict[str, Any], dict[str, bytes]]:
    """Inputs with digests, stage graph, tags and the files of the artifact folder ``lineage``."""
    state = lineage.git_state(root)
    address = os.environ.get("DVC_STAGE")
    graph: dict[str, Any] = {"version": lineage.VERSION, "stage": address, "stages": {}, "disagree": []}
    if not (root / ".dvc").is_dir():
        told = "absent: not a DVC repository"
    else:
        try:
            graph = lineage.stage_graph(root, address, [item.path for item in inputs])
            told = "complete" if address else "of the inputs: not started by DVC"
            if graph["disagree"]:
                told = "inconsistent: " + ", ".join(f"{d['stage']}: {d['path']}" for d in graph["disagree"])
        except Exception as error:  # noqa: BLE001 - a run without lineage is worth more than none; audits refuse it
            told = f"unresolved: {type(error).__name__}: {error}"
    resolved = resolve_inputs(root, inputs, graph)
    files = {}
    for name in ("params.yaml", "dvc.yaml", "dvc.lock"):
        if (root / name).is_file():
            files[name] = (root / name).read_bytes()
    if state is not None and state.patch:
        files["uncommitted.patch"] = state.patch
    graph["files"] = {name: sha256_bytes(data) for name, data in sorted(files.items())}
    files["stages.json"] = (json.dumps(graph, indent=1, sort_keys=True) + "\n").encode()

    lock = root / "requirements.lock"
    tags = {
        "stage": address or stage,
        "lineage": told,
        "lineage_sha256": sha256_bytes(files["stages.json"]),
        "git_commit": (state.commit or "none yet") if state else "absent: not a git repository",
        "git_dirty": str(state.dirty).lower() if state else "absent: not a git repository",
        "code_sha256": sha256_tree(Path(__file__).parent),
        "base_sha256": _base_hash(root, resolved),
        "lock_sha256": sha256_file(lock) if lock.is_file() else "absent: no requirements.lock",
        "device": _device(),
        "partsynth_version": importlib.metadata.version("partsynth"),
        "mlflow.source.name": f"partsynth {address or stage}",
        "mlflow.source.type": "JOB",
        "mlflow.user": os.environ.get("USER") or os.environ.get("USERNAME") or "unknown",
    }
    if state and state.commit:
        tags["mlflow.source.git.commit"] = state.commit
    for variable, tag in (("DVC_EXP_NAME", "dvc_exp"), ("DVC_EXP_BASELINE_REV", "dvc_exp_baseline")):
        if value := os.environ.get(variable):
            tags[tag] = value
    return resolved, graph, tags, files


def _base_hash(root: Path, inputs: list[DataInput]) -> str:
    """The diffusion models' hashes as the augmented pictures' manifests name them."""
    found = set()
    for item in inputs:
        manifest = root / item.path / "manifest.csv"
        if lineage.covers("data/augmented", item.path) and manifest.is_file():
            with open(manifest, newline="") as file:
                found |= {row.get("base_sha256") or "unknown" for row in csv.DictReader(file)}
    return ",".join(sorted(found)) or "none: no synthetic pictures"


def _device() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()} x {torch.cuda.device_count()}"
    return f"cpu {platform.machine()} x {cores}"


def _log_params(store: Any, run_id: str, params: dict[str, Any]) -> None:
    from mlflow.entities import Param

    flat: list[Any] = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{prefix}.{key}", inner)
        else:
            flat.append(Param(prefix, str(value)))

    for name, section in params.items():
        walk(name, section)
    for start in range(0, len(flat), 100):  # MLflow's limit a call
        store.log_batch(run_id, params=flat[start : start + 100])


def _log_sheet(root: Path, store: Any, run_id: str, inputs: list[DataInput]) -> None:
    """A contact sheet of the training table as artifact sheets/training.jpg; what cannot be read fails elsewhere."""
    table = next((root / item.path for item in inputs if item.name.startswith("selected")), None)
    if table is None or not table.is_file():
        return
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError, UserError):
        path = Path(folder, "training.jpg")
        sheets.training_sheet(read_manifest(table, SelectedRecord), root).save(path, quality=88)
        store.log_artifact(run_id, str(path), "sheets")


def _system_metrics(root: Path, run_id: str) -> Any:
    """CPU, memory, disk and, where NVML works, GPU load under ``system/``; None where psutil does not work."""
    try:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(
            run_id, sampling_interval=SAMPLING_INTERVAL, samples_before_logging=1, tracking_uri=tracking_uri(root)
        )
        monitor.start()
    except Exception:  # noqa: BLE001 - a machine without psutil or with a broken driver still trains
        return None
    return monitor


def _supersede(root: Path, store: Any, experiment: str, identity: str, parent_run_id: str | None) -> None:
    """Leave one live run of a fingerprint: the newest that finished."""
    same = [
        run
        for run in find_runs(root, fingerprint=identity, experiment=experiment, live=True)
        if run.tags.get(PARENT) == parent_run_id
    ]
    finished = [run for run in same if run.status == "FINISHED"]
    if not finished:
        return
    newest = max(finished, key=lambda run: (run.start_time, run.end_time or 0, run.run_id))
    for run in same:
        if run.status == "RUNNING":
            if not _died(run.tags.get("process", "")):
                continue
            store.set_terminated(run.run_id, "KILLED")
        if run.run_id != newest.run_id:
            store.set_tag(run.run_id, "superseded_by", newest.run_id)


def _died(process: str) -> bool:
    """Whether a run's ``host:pid`` is gone from this host; of another host nothing is known."""
    host, _, pid = process.rpartition(":")
    if host != platform.node() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


# --- studies --------------------------------------------------------------------------------------------------------


def open_study(root: Path, name: str, tags: dict[str, Any], run_id: str | None = None) -> str:
    """The run that a study's trials are nested in: made, or the given one RUNNING again; returns its id."""
    _mlflow()
    store = client(root)
    if run_id is not None:
        store.update_run(run_id, status="RUNNING")
        return run_id
    made = store.create_run(
        experiment_id(root, STUDIES), tags={key: str(value) for key, value in tags.items()}, run_name=name
    )
    return made.info.run_id


def end_run(root: Path, run_id: str, status: str, tags: dict[str, Any] | None = None) -> None:
    """End a run that no ``training_run`` of this process holds: a study, or the trial of a dead worker."""
    _mlflow()
    store = client(root)
    for key, value in (tags or {}).items():
        store.set_tag(run_id, key, value)
    store.set_terminated(run_id, status)


def log_results(root: Path, run_id: str, metrics: dict[str, float]) -> bool:
    """Add an evaluation's figures to a finished run; False where the store does not know the run (a fresh clone)."""
    mlflow = _mlflow()
    if not _exists(root):
        return False
    store = client(root)
    try:
        store.get_run(run_id)
    except mlflow.MlflowException:
        return False
    TrainingRun(store, run_id, {}).log_metrics(metrics)
    return True


# --- the chosen model ---------------------------------------------------------------------------------------------


def register_model(
    root: Path,
    run_id: str,
    card: str,
    alias: str = "champion",
    model: str = MODEL,
    metrics: dict[str, float] | None = None,
) -> str:
    """Register a run's logged model under an alias, with its model card and data digests; returns the version.

    The same run again moves the alias and renews the card instead of making another version.

    Raises
    ------
    UserError
        where the run did not finish, was replaced by a rerun, or logged no model.
    """
    mlflow = _mlflow()
    store = client(root)
    run = get_run(root, run_id)
    if run.status != "FINISHED" or not run.live:
        raise UserError(f"run {run_id} cannot be registered: it is {run.status}{'' if run.live else ' and replaced'}")
    if not store.list_artifacts(run_id, "model"):
        raise UserError(f"run {run_id} logged no model")
    try:
        store.get_registered_model(model)
    except mlflow.MlflowException:
        store.create_registered_model(model, description="SupCon encoders and linear classifiers of used parts")
    known = [v for v in store.search_model_versions(f"name = '{model}'") if v.run_id == run_id]
    if known:
        version = max(known, key=lambda v: int(v.version)).version
    else:
        source = f"{store.get_run(run_id).info.artifact_uri}/model"
        version = store.create_model_version(model, source=source, run_id=run_id).version
    store.update_model_version(model, version, description=card)
    store.log_text(run_id, card, "model_card.md")
    tags = {f"data.{item.path}": item.digest or "unknown" for item in run.inputs}
    tags |= {key: run.tags.get(key, "") for key in ("setup", "seed", "fingerprint", "git_commit", "base_sha256")}
    tags |= {f"metric.{key}": repr(float(value)) for key, value in (metrics or {}).items()}
    for key, value in tags.items():
        store.set_model_version_tag(model, version, key, value)
    store.set_registered_model_alias(model, alias, version)
    return str(version)


def model_versions(root: Path) -> list[dict[str, Any]]:
    """Registered models: ``model``, ``version``, ``run_id``, ``aliases``."""
    if not _exists(root):
        return []
    store = client(root)
    found = []
    for registered in store.search_registered_models():
        aliases: dict[str, list[str]] = {}
        for alias, version in registered.aliases.items():
            aliases.setdefault(str(version), []).append(alias)
        for version in store.search_model_versions(f"name = '{_quoted(registered.name)}'"):
            number = str(version.version)
            found.append(
                {
                    "model": registered.name,
                    "version": number,
                    "run_id": version.run_id,
                    "aliases": sorted(aliases.get(number, [])),
                }
            )
    return found


# --- reading, for audits, studies and reports -----------------------------------------------------------------------


def find_runs(
    root: Path,
    *,
    fingerprint: str | None = None,
    setup: str | None = None,
    seed: int | None = None,
    digest: str | None = None,
    parent_run_id: str | None = None,
    name: str | None = None,
    live: bool = True,
    experiment: str | None = None,
) -> list[RunView]:
    """Runs, oldest first; ``digest`` is the md5 of a data set they used; ``live`` leaves failed and replaced ones out.

    All experiments are searched where ``experiment`` is None.
    """
    if not _exists(root):
        return []
    store = client(root)
    experiments = store.search_experiments()
    chosen = {e.experiment_id: e.name for e in experiments if experiment in (None, e.name)}
    if not chosen:
        return []
    wanted = {
        "tags.fingerprint": fingerprint,
        "tags.setup": setup,
        "tags.seed": None if seed is None else str(seed),
        "datasets.digest": digest,
        f"tags.`{PARENT}`": parent_run_id,
        "attributes.run_name": name,
    }
    query = " and ".join(f"{key} = '{_quoted(value)}'" for key, value in wanted.items() if value is not None)
    found, token = [], None
    while True:
        page = store.search_runs(
            list(chosen), filter_string=query, order_by=["attributes.start_time ASC"], page_token=token
        )
        found += page
        token = page.token
        if not token:
            break
    views = [_view(run, chosen[run.info.experiment_id]) for run in found]
    return [view for view in views if view.live or not live]


def get_run(root: Path, name: str) -> RunView:
    """A run by its id, a registry alias (``champion`` or ``model@alias``), or the name of one live run.

    Raises
    ------
    UserError
        where there is none, or the name fits several.
    """
    mlflow = _mlflow()
    if _exists(root):
        store = client(root)
        with contextlib.suppress(mlflow.MlflowException):
            run = store.get_run(name)
            return _view(run, store.get_experiment(run.info.experiment_id).name)
        model, _, alias = name.rpartition("@")
        with contextlib.suppress(mlflow.MlflowException):
            return get_run(root, store.get_model_version_by_alias(model or MODEL, alias).run_id)
        named = find_runs(root, name=name, experiment=EXPERIMENT)
        if len(named) == 1:
            return named[0]
        if named:
            raise UserError(f"{len(named)} live runs are named {name}: " + ", ".join(run.run_id for run in named))
    raise UserError(f"no MLflow run, alias or run name {name!r} in {tracking_uri(root)}")


def read_artifact(root: Path, run_id: str, path: str) -> bytes | None:
    """The bytes of a run's artifact; None where it is missing."""
    mlflow = _mlflow()
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(mlflow.MlflowException, OSError):
        return Path(client(root).download_artifacts(run_id, path, folder)).read_bytes()
    return None


def _exists(root: Path) -> bool:
    """Looking must not make a database."""
    uri = tracking_uri(root)
    return not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).is_file()


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def _view(run: Any, experiment: str) -> RunView:
    inputs = []
    for item in run.inputs.dataset_inputs:
        context = next((tag.value for tag in item.tags if tag.key == "mlflow.data.context"), "")
        path = json.loads(item.dataset.source).get("path", "") if item.dataset.source_type == "dvc" else ""
        inputs.append(DataInput(item.dataset.name, path, item.dataset.digest, context))
    return RunView(
        run_id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        experiment=experiment,
        start_time=run.info.start_time,
        end_time=run.info.end_time,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics={k: v for k, v in run.data.metrics.items() if not (isinstance(v, float) and math.isnan(v))},
        inputs=tuple(sorted(inputs, key=lambda item: item.path)),
    )
