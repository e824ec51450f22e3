"""The only importer of mlflow: a sink that runs write to. The pipeline reads nothing back from it; people and audits do.

A training run carries its commit, fingerprint, device, one dataset input per data set whose digest is DVC's md5, and
its own copy of the resolved stage graph (artifact folder ``lineage``). The client's explicit run ids are used
throughout, so MLFLOW_RUN_ID and the fluent interface's thread-local run cannot redirect a nested run.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from partsynth.errors import UserError
from partsynth.lineage import graph as lineage_graph
from partsynth.lineage.git import git_state
from partsynth.lineage.graph import VERSION, covers
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import SelectedRecord
from partsynth.store.hashing import sha256_bytes, sha256_file, sha256_tree
from partsynth.tracking import sheet
from partsynth.tracking.inputs import DataInput, dataset_inputs, log_inputs, resolve_inputs
from partsynth.tracking.query import find_runs
from partsynth.tracking.store import EXPERIMENT, PARENT, client, experiment_id, import_mlflow, tracking_uri

SAMPLING_INTERVAL = 5.0  # seconds between system metrics


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
    import_mlflow()
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
        log_inputs(store, run_id, dataset_inputs(root, resolved))
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
    state = git_state(root)
    address = os.environ.get("DVC_STAGE")
    graph: dict[str, Any] = {"version": VERSION, "stage": address, "stages": {}, "disagree": []}
    if not (root / ".dvc").is_dir():
        told = "absent: not a DVC repository"
    else:
        try:
            graph = lineage_graph.stage_graph(root, address, [item.path for item in inputs])
            told = "complete" if address else "of the inputs: not started by DVC"
            if graph["disagree"]:
                told = "inconsistent: " + ", ".join(f"{d['stage']}: {d['path']}" for d in graph["disagree"])
        except Exception as error:
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
        if covers("data/augmented", item.path) and manifest.is_file():
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
        sheet.training_sheet(read_manifest(table, SelectedRecord), root).save(path, quality=88)
        store.log_artifact(run_id, str(path), "sheets")


def _system_metrics(root: Path, run_id: str) -> Any:
    """CPU, memory, disk and, where NVML works, GPU load under ``system/``; None where psutil does not work."""
    try:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(
            run_id, sampling_interval=SAMPLING_INTERVAL, samples_before_logging=1, tracking_uri=tracking_uri(root)
        )
        monitor.start()
    except Exception:
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
