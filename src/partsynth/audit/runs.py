"""Training runs as an audit sees them: from MLflow, else from the run.json beside each model."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partsynth.errors import UserError
from partsynth.lineage.graph import StageGraph
from partsynth.store.addresses import masked
from partsynth.store.hashing import sha256_bytes
from partsynth.store.layout import CLASSIFIERS, RUNS
from partsynth.tracking.inputs import DataInput
from partsynth.tracking.query import find_runs, get_run, read_artifact
from partsynth.tracking.store import tracking_uri

RUN_FILES = (f"{RUNS}/*/*.json", f"{CLASSIFIERS}/*/*/run.json")  # the second: of earlier versions
FACTS = ("setup", "seed", "stage", "fingerprint", "git_commit", "git_dirty", "base_sha256", "lock_sha256", "device")


@dataclass(frozen=True)
class RunRecord:
    """A training run as an audit sees it. ``stored`` says where it was read: "MLflow" or the path of a run.json."""

    run_id: str
    name: str
    status: str
    live: bool
    tags: dict[str, str]
    inputs: tuple[DataInput, ...]
    stored: str
    record: dict[str, Any] | None = None  # run.json, where MLflow does not know the run

    @property
    def training_table(self) -> tuple[str, str] | None:
        """Its path and md5; None where the run names none."""
        return next(((i.path, i.digest) for i in self.inputs if i.name.startswith("selected") and i.digest), None)

    @property
    def commit(self) -> str:
        return self.tags.get("git_commit", "")

    def digest(self, path: str) -> str | None:
        """DVC's md5 of one of its data sets."""
        return next((item.digest for item in self.inputs if item.path == path and item.digest), None)

    def brief(self) -> dict[str, Any]:
        return {"run_id": self.run_id, "name": self.name, "status": self.status, "live": self.live}

    def facts(self) -> dict[str, Any]:
        return self.brief() | {"stored": self.stored} | {key: self.tags[key] for key in FACTS if key in self.tags}


def all_runs(root: Path) -> list[RunRecord]:
    """Every training of a classifier that left a trace, failed and replaced ones too, oldest first."""
    found = {
        view.run_id: RunRecord(view.run_id, view.name, view.status, view.live, view.tags, view.inputs, "MLflow")
        for view in find_runs(root, live=False)
        if "lineage_sha256" in view.tags and view.tags.get("stage") != "adapt"
    }
    for path in sorted(path for pattern in RUN_FILES for path in root.glob(pattern)):
        with contextlib.suppress(ValueError, KeyError, TypeError, OSError, RecursionError):  # a torn file names no run
            record = _from_file(path.relative_to(root).as_posix(), json.loads(path.read_text()))
            found.setdefault(record.run_id, record)
    return list(found.values())


def _from_file(path: str, record: dict[str, Any]) -> RunRecord:
    inputs = tuple(DataInput(**item) for item in record["inputs"])
    name = f"{record['setup']}-seed{record['seed']}"
    return RunRecord(record["run_id"], name, "FINISHED", True, record["tags"], inputs, path, record)


def find_run(root: Path, name: str) -> RunRecord:
    """By run id, registry alias, or run name; from MLflow, else from the run.json files of the workspace.

    Raises
    ------
    UserError
        where there is none, or several live ones have the name.
    """
    runs = all_runs(root)
    fitting = [run for run in runs if run.run_id == name]
    if not fitting:
        try:
            run_id = get_run(root, name).run_id
        except UserError:
            run_id = name
        fitting = [r for r in runs if r.run_id == run_id] or [r for r in runs if r.live and r.name == name]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(f"{len(fitting)} live runs are named {name}: " + ", ".join(run.run_id for run in fitting))
    known = ", ".join(sorted({run.name for run in runs if run.live})) or "none"
    raise UserError(
        f"no run, alias or run name {name!r} in {masked(tracking_uri(root))}, nor in {' or '.join(RUN_FILES)} "
        f"(live runs: {known})"
    )


def recorded_graph(root: Path, run: RunRecord) -> StageGraph:
    """The stage graph that the run kept, checked against the hash in its tags.

    Raises
    ------
    UserError
        where it is missing, altered, incomplete, or disagrees with itself.
    """
    graph: StageGraph
    if run.record is not None:
        graph = run.record["lineage"]
        data = (json.dumps(graph, indent=1, sort_keys=True) + "\n").encode()
    else:
        data = read_artifact(root, run.run_id, "lineage/stages.json") or b""
        if not data:
            raise UserError(f"run {run.run_id} has no artifact lineage/stages.json")
        graph = json.loads(data)
    if sha256_bytes(data) != run.tags.get("lineage_sha256"):
        raise UserError(f"run {run.run_id}: its stage graph was altered (sha256 differs from tag lineage_sha256)")
    if not run.tags.get("lineage", "").startswith(("complete", "of the inputs")):
        raise UserError(f"run {run.run_id} cannot be traced, its lineage is {run.tags.get('lineage')!r}")
    if graph["disagree"]:
        raise UserError(f"run {run.run_id}: dependencies and outputs disagree in its stage graph")
    return graph
