"""What is stored of runs: a project's own database is read without MLflow, anything else through its client."""

from __future__ import annotations

from pathlib import Path

from partsynth.errors import UserError
from partsynth.lineage.identity import project_id
from partsynth.store.addresses import masked
from partsynth.tracking import private, store
from partsynth.tracking.artifacts import Artifacts
from partsynth.tracking.served import ClientReader
from partsynth.tracking.views import PARENT, ModelVersion, Reader, RunView, Wanted


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

    All experiments are searched where ``experiment`` is None. Runs that other projects keep in the same store are left
    out; those of old, which name none, are not.
    """
    if (reader := open_reader(root)) is None:
        return []
    tags = {"fingerprint": fingerprint, "setup": setup, "seed": seed, PARENT: parent_run_id}
    wanted = Wanted(
        tags={key: str(value) for key, value in tags.items() if value is not None},
        digest=digest,
        name=name,
        experiment=experiment,
    )
    project = project_id(root)
    return [view for view in reader.runs(wanted) if (view.live or not live) and view.belongs_to(project)]


def get_run(root: Path, name: str) -> RunView:
    """A run by its id, a registry alias (``champion`` or ``model@alias``), or the name of one live run.

    Raises
    ------
    UserError
        where there is none, or the name fits several.
    """
    if (reader := open_reader(root)) is not None:
        if (run := reader.run(name)) is not None:
            return run
        model, _, alias = name.rpartition("@")
        project = project_id(root)
        for known in [model] if model else dict.fromkeys([store.model_name(root), store.MODEL]):
            run_id = reader.aliased(known, alias)
            run = reader.run(run_id) if run_id is not None else None
            if run is not None and (model or run.belongs_to(project)):
                return run
        named = find_runs(root, name=name, experiment=store.experiment())
        if len(named) == 1:
            return named[0]
        if named:
            raise UserError(f"{len(named)} live runs are named {name}: " + ", ".join(run.run_id for run in named))
    raise UserError(f"no MLflow run, alias or run name {name!r} in {masked(store.tracking_uri(root))}")


def read_artifact(root: Path, run_id: str, path: str) -> bytes | None:
    """The bytes of a run's artifact; None where it is missing."""
    reader = open_reader(root)
    if reader is None or (run := reader.run(run_id)) is None:
        return None
    return Artifacts(run.artifact_uri, store.tracking_uri(root)).read(path)


def model_versions(root: Path) -> list[ModelVersion]:
    """The registered models by name, those changed last first."""
    reader = open_reader(root)
    return [] if reader is None else reader.versions()


def open_reader(root: Path) -> Reader | None:
    """A look into the project's store; None where there is none yet: looking must not make one.

    Raises
    ------
    UserError
        where a moved project's store cannot be made to point to its own artifacts, or cannot be read.
    """
    if not store.exists(root):
        return None
    if (path := store.database(root)) is not None:
        store.settle(root, path)
        if (reader := private.reader(path)) is not None:
            return reader
    return ClientReader(store.client(root))
