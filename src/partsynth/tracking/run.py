"""A sink that trainings write to. The pipeline reads nothing back from it; people and audits do.

A training run carries its commit, fingerprint, device, one dataset input per data set whose digest is DVC's md5, and
its own copy of the resolved stage graph (artifact folder ``lineage``). The client's explicit run ids are used
throughout, so MLFLOW_RUN_ID and the fluent interface's thread-local run cannot redirect a nested run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from partsynth.errors import UserError
from partsynth.store import process
from partsynth.tracking import probe, sheet
from partsynth.tracking.artifacts import Artifacts
from partsynth.tracking.inputs import DataInput, log_inputs
from partsynth.tracking.query import find_runs
from partsynth.tracking.stamp import kept_in_record, take_stamp
from partsynth.tracking.store import client, experiment, experiment_id, tracking_uri
from partsynth.tracking.system import watch_system
from partsynth.tracking.views import PARENT, Status

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH = 100  # parameters per call: MLflow's limit


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """What is known of a training before it begins."""

    stage: str
    """Name of the stage; DVC_STAGE wins where DVC started this process."""
    setup: str
    seed: int
    fingerprint: str
    """Identity of all inputs. After success earlier runs of the same fingerprint (in the same experiment, with the same
    parent) get the tag ``superseded_by``; a run whose process died is marked KILLED."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Nested; logged flat as ``train.temperature``."""
    inputs: Sequence[DataInput] = ()
    """Data sets used; those found among the stage's ancestors are added."""
    tags: Mapping[str, Any] = field(default_factory=dict)
    parent_run_id: str | None = None
    experiment: str = field(default_factory=experiment)
    name: str | None = None
    """``<setup>-seed<seed>`` where None."""


class TrainingRun:
    """What a stage may write to while it trains."""

    def __init__(
        self,
        store: MlflowClient,
        run_id: str,
        artifacts: Artifacts,
        identity: dict[str, Any] | None = None,
        watch: Callable[[], Callable[[], None]] | None = None,
    ) -> None:
        self._store, self._artifacts = store, artifacts
        self._watch, self._unwatch = watch, contextlib.ExitStack()  # the system's load
        self.run_id = run_id
        self.identity = identity or {}  # run id, fingerprint, inputs and stage graph: goes into run.json
        self.status: Status = "FINISHED"  # where nothing is raised; KILLED for a pruned trial

    def log_metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Numbers, in one call; non-finite ones are kept as they are (MLflow shows them)."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._store.log_batch(
            self.run_id, metrics=[Metric(name, float(value), now, step or 0) for name, value in values.items()]
        )
        # not before: MLflow's compare page opens on the metric that came first
        if self._watch is not None:
            watch, self._watch = self._watch, None
            self._unwatch.callback(watch())

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """A file, or a folder with all below it."""
        self._artifacts.add(path, folder)

    def log_file(self, path: str, data: bytes) -> None:
        """An artifact of these bytes; ``path`` with slashes."""
        folder, _, name = path.rpartition("/")
        self._artifacts.add_files({name: data}, folder)

    def log_model(self, folder: Path) -> None:
        """The trained model's folder as artifacts ``model/...`` (safetensors and JSON; nothing is pickled)."""
        self._artifacts.add_all(folder, "model")

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        for name, value in tags.items():
            self._store.set_tag(self.run_id, name, value)

    def stop_watching(self) -> None:
        self._unwatch.close()


@contextlib.contextmanager
def training_run(root: Path, spec: RunSpec) -> Iterator[TrainingRun]:
    """One MLflow run round one training; works outside git and DVC too and says so in its tags.

    ``root`` is the repository's root, the folder of dvc.yaml. An exception inside marks the run FAILED, with tag
    ``why`` (KILLED for an interrupt), and goes on.

    Raises
    ------
    UserError
        where the store cannot be used, or is lost on the way; then nothing more is asked of it.
    """
    root = Path(root).resolve()
    store, uri = client(root), tracking_uri(root)
    stamp = take_stamp(root, spec.stage, spec.inputs)
    tags = {key: str(value) for key, value in _tags(spec, stamp.tags).items()}
    with _told_when_lost(uri):
        made = store.create_run(
            experiment_id(root, spec.experiment),
            tags=tags | {"process": process.identity()},
            run_name=spec.name or f"{spec.setup}-seed{spec.seed}",
        )
    run_id, artifacts = made.info.run_id, Artifacts(made.info.artifact_uri, uri)
    identity = {
        "run_id": run_id,
        "fingerprint": spec.fingerprint,
        "setup": spec.setup,
        "seed": spec.seed,
        "tags": tags,
        "inputs": [vars(item) for item in stamp.inputs],
        "lineage": stamp.graph,
        "files": {name: data.decode() for name, data in stamp.files.items() if kept_in_record(name)},
    }
    run = TrainingRun(store, run_id, artifacts, identity, lambda: watch_system(run_id, uri))
    status: Status | Literal["LOST"] = "FAILED"
    try:
        _log_params(store, run_id, spec.params)
        log_inputs(store, run_id, root, stamp.inputs)
        artifacts.add_files(stamp.files, "lineage")
        if spec.parent_run_id is None and (image := sheet.of_inputs(root, stamp.inputs)) is not None:
            run.log_file("sheets/training.jpg", image)  # trials share theirs
        yield run
        status = run.status
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        status = "KILLED"
        raise
    except Exception as error:
        if sentence := probe.lost(uri, error):
            status = "LOST"
            raise UserError(sentence) from None
        with contextlib.suppress(Exception):  # the store may be what failed
            store.set_tag(run_id, "why", f"{type(error).__name__}: {error}"[:1000])
        raise
    finally:
        run.stop_watching()
        if status != "LOST":
            _end(root, store, uri, spec, run_id, status)


def _end(root: Path, store: MlflowClient, uri: str, spec: RunSpec, run_id: str, status: Status) -> None:
    with _told_when_lost(uri):
        store.set_terminated(run_id, status)
        if status == "FINISHED":
            _supersede(root, store, spec)


@contextlib.contextmanager
def _told_when_lost(uri: str) -> Iterator[None]:
    """A server that goes away inside is one sentence."""
    try:
        yield
    except Exception as error:
        if (sentence := probe.lost(uri, error)) is None:
            raise
        raise UserError(sentence) from None


def _tags(spec: RunSpec, stamped: Mapping[str, str]) -> dict[str, Any]:
    tags = {**stamped, "setup": spec.setup, "seed": spec.seed, "fingerprint": spec.fingerprint, **spec.tags}
    return tags | ({PARENT: spec.parent_run_id} if spec.parent_run_id else {})


def _log_params(store: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    flat = [Param(name, str(value)) for name, value in _flat(params)]
    for start in range(0, len(flat), BATCH):
        store.log_batch(run_id, params=flat[start : start + BATCH])


def _flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values; an empty mapping is a value."""
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _supersede(root: Path, store: MlflowClient, spec: RunSpec) -> None:
    """Leave one live run of a fingerprint: the newest that finished."""
    same = [
        run
        for run in find_runs(root, fingerprint=spec.fingerprint, experiment=spec.experiment)
        if run.tags.get(PARENT) == spec.parent_run_id
    ]
    finished = [run for run in same if run.status == "FINISHED"]
    if not finished:
        return
    newest = max(finished, key=lambda run: (run.start_time, run.end_time or 0, run.run_id))
    for run in same:
        if run.status == "RUNNING":
            if not run.orphaned:
                continue
            store.set_terminated(run.run_id, "KILLED")
        if run.run_id != newest.run_id:
            store.set_tag(run.run_id, "superseded_by", newest.run_id)
