"""The project's MLflow store: where it is, made whole, one experiment for trainings and one for studies."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from partsynth.errors import UserError
from partsynth.lineage import git as lineage_git
from partsynth.lineage.identity import project_id
from partsynth.store import process
from partsynth.store.files import draft_of
from partsynth.tracking import private, probe

if TYPE_CHECKING:
    from mlflow import MlflowClient

STUDIES = "partsynth-studies"  # the experiment of studies and their trials
MODEL = "partsynth"  # name in the model registry of a store that is the project's alone
KIND = {"mlflow.experimentKind": "custom_model_development"}  # MLflow's pages open on trainings, not on LLM traces
SQLITE = "sqlite:///"
_TRIED: set[str] = set()  # addresses of stores that have answered this process


def experiment() -> str:
    """Name of the experiment of training runs."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or "partsynth"


def tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI where set, else the SQLite file at the home of ``root`` (absolute: stages, experiments in
    temporary copies and the UI must meet in one store)."""
    named = os.environ.get("MLFLOW_TRACKING_URI", "")
    if named.startswith(SQLITE):  # a relative one would be another file in each working folder
        return f"{SQLITE}{lineage_git.home(root) / named.removeprefix(SQLITE)}"
    return named or f"{SQLITE}{lineage_git.home(root) / 'mlflow.db'}"


def model_name(root: Path) -> str:
    """The project's name in the model registry: in a store that it may share with others one of its own."""
    shared = bool(os.environ.get("MLFLOW_TRACKING_URI"))
    return f"{MODEL}-{project}" if shared and (project := project_id(root)) else MODEL


def database(root: Path) -> Path | None:
    """The store's SQLite file, there or not; None for a server or another database."""
    uri = tracking_uri(root)
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def exists(root: Path) -> bool:
    """Whether there is something to look into: looking must not make a database."""
    path = database(root)
    return path is None or path.is_file()


def settle(root: Path, path: Path) -> None:
    """Let a database that is the project's own, not one that several share, point to the artifacts beside it.

    Raises
    ------
    UserError
        where it names a former folder and cannot be changed.
    """
    shared = os.environ.get("MLFLOW_TRACKING_URI")  # where it is not set there is no need to ask git again
    if not shared or path == lineage_git.home(root) / "mlflow.db":
        private.follow(path, path.with_name("mlartifacts"))


def import_mlflow() -> Any:
    """The module ``mlflow``, quiet and without telemetry: seconds of CPU, so not before something is written."""
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


def client(root: Path) -> MlflowClient:
    """The project's client; a missing database is made.

    Raises
    ------
    UserError
        as ``settle``, and where the store cannot be used (asked once per process).
    """
    path, uri = database(root), tracking_uri(root)
    tried = uri in _TRIED
    if not tried:
        probe.require_kind(uri)
        probe.require_server(uri)
    if path is not None:
        if not tried:
            probe.require_writable(path)
        if not path.is_file():
            _make(path)
        settle(root, path)
    store = _opened(uri) if not tried else import_mlflow().MlflowClient(tracking_uri=uri, registry_uri=uri)
    _TRIED.add(uri)
    return store if uri.startswith("http") else cast("MlflowClient", _WholeCalls(store))


class _WholeCalls:
    """A client of a database, each of whose calls an interrupt waits for: a transaction that it left open would keep
    the database locked, so that the run could not be ended."""

    def __init__(self, store: MlflowClient) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return process.whole()(found) if callable(found) else found


def require_usable(root: Path) -> None:
    """What ``client`` would find wrong with the store, without making one and, where it can be, without MLflow.

    Raises
    ------
    UserError
        where the address, the server, the file or its tables cannot be used.
    """
    path, uri = database(root), tracking_uri(root)
    probe.require_kind(uri)
    probe.require_server(uri)
    if path is not None:
        probe.require_writable(path)
        if not path.is_file() or private.reader(path) is not None:
            return
    _opened(uri)


def experiment_id(root: Path, name: str | None = None) -> str:
    """The id of an experiment, of trainings' where None; made where it is missing (two processes may do so at once).

    Raises
    ------
    UserError
        where it was deleted.
    """
    mlflow, store = import_mlflow(), client(root)
    name, location = name or experiment(), None
    if database(root) is not None:  # a server decides by itself
        location = (lineage_git.home(root) / "mlartifacts" / name).as_uri()
    if (found := store.get_experiment_by_name(name)) is None:
        try:
            return store.create_experiment(name, artifact_location=location, tags=KIND)
        except mlflow.MlflowException:
            if (found := store.get_experiment_by_name(name)) is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise UserError(f"MLflow experiment {name!r} is deleted: restore it in the UI, or name another one")
    if not KIND.keys() & found.tags.keys():  # of earlier versions; what a person chose in the UI stays
        for key, value in KIND.items():
            store.set_experiment_tag(found.experiment_id, key, value)
    return found.experiment_id


def _opened(uri: str) -> MlflowClient:
    """A client that has asked its store something."""
    try:
        store = import_mlflow().MlflowClient(tracking_uri=uri, registry_uri=uri)
        store.search_experiments(max_results=1)
    except Exception as error:  # MLflow's, SQLAlchemy's, a driver's
        raise UserError(probe.sentence(uri, error)) from None
    return store


def _make(path: Path) -> None:
    """Make a database beside its place and move it there whole: MLflow cannot go on from half its tables."""
    with draft_of(path) as draft:
        import_mlflow().MlflowClient(tracking_uri=f"{SQLITE}{draft}").search_experiments(max_results=1)
