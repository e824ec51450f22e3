"""Exactly the data that a run's model was trained on, written out and verified."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from partsynth.audit.manifests import check_manifests
from partsynth.audit.result import Fault, Result
from partsynth.audit.runs import RunRecord, find_run, recorded_graph
from partsynth.audit.tables import table_bytes
from partsynth.audit.workspace import Workspace
from partsynth.errors import UserError
from partsynth.lineage.digests import listing_md5, md5_bytes, path_md5
from partsynth.lineage.git import files_at
from partsynth.lineage.graph import LOCK, StageGraph, covers, outputs, outside_dependencies
from partsynth.lineage.objects import Objects
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import SelectedRecord
from partsynth.store import shards
from partsynth.store.files import inside, write_bytes_atomic, write_json
from partsynth.store.hashing import sha256_bytes
from partsynth.tracking.query import read_artifact
from partsynth.tracking.takedown import TAKEDOWN


@dataclass(frozen=True)
class Restored:
    """An output that was written out, every file checked."""

    md5: str
    files: int
    found_in: str  # "cache", "workspace" or "git"

    def as_json(self) -> dict[str, Any]:
        return {"md5": self.md5, "files": self.files, "from": self.found_in}


def checkout_run(root: Path, name: str, out: Path) -> Result:
    """Check out exactly one run's data, tokens and parameters by hash, and verify every file.

    ``out`` appears only when all of it was found and verified.

    Raises
    ------
    UserError
        where there is no such run, it has no sound stage graph, or ``out`` is not empty.
    """
    root, out = root.resolve(), out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty: name a new folder")
    run = find_run(root, name)
    graph = recorded_graph(root, run)
    outs = outputs(graph["stages"])
    faults = [
        Fault(item.path, f"MLflow names digest {item.digest}, the stage graph {outs[item.path]}")
        for item in run.inputs
        if item.path in outs and outs[item.path] != item.digest
    ]
    if run.training_table is None:
        faults.append(Fault(run.run_id, "the run names no training table"))
    if taken := run.tags.get(TAKEDOWN):
        faults.append(Fault(run.run_id, f"a photograph it was trained on was taken down, and is nowhere kept: {taken}"))
    partial = out.with_name(out.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        restored = _restore_all(root, run, outs, partial, faults)
        faults += _write_configuration(root, run, graph, partial)
        if not faults:
            faults += _verify(partial, run, graph)
        found = {path: one.as_json() for path, one in restored.items()}
        if faults:
            return Result("run", {"run": run.facts(), "checked_out": None, "outputs": found}, faults)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    outside = [one.as_json() for one in _outside(root, run, graph)]
    data = {"run": run.facts(), "checked_out": str(out), "outputs": found, "not_checked_out": outside}
    return Result("run", data)


def _restore_all(
    root: Path, run: RunRecord, outs: dict[str, str], folder: Path, faults: list[Fault]
) -> dict[str, Restored]:
    restored = {}
    with Objects(root) as objects:
        objects.fetch(outs.values())
        for path, md5 in sorted(outs.items()):
            try:
                restored[path] = _restore(root, objects, run, path, md5, folder)
            except UserError as error:
                faults += [Fault(path, line) for line in str(error).splitlines()]
        if run.training_table and (path := run.training_table[0]) not in outs:
            try:
                write_bytes_atomic(inside(folder, path), table_bytes(objects, run))
            except UserError as error:
                faults.append(Fault(path, str(error)))
    return restored


def _restore(root: Path, objects: Objects, run: RunRecord, path: str, md5: str, folder: Path) -> Restored:
    """Write one output; one that DVC does not cache (the base model) comes from the workspace or git, by its hash."""
    target = inside(folder, path)
    if objects.path(md5).is_file():
        return Restored(md5, len(objects.restore(md5, target)), "cache")
    if path_md5(root / path) == md5:
        found_in = "workspace"
        if (root / path).is_dir():
            shutil.copytree(root / path, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            write_bytes_atomic(target, (root / path).read_bytes())
    else:
        found_in = "git"
        for name, data in files_at(root, run.commit, path).items():
            write_bytes_atomic(inside(target, name) if name else target, data)
    if path_md5(target) != md5:
        shutil.rmtree(target, ignore_errors=True)
        raise UserError(
            f"{md5} is in neither cache nor remotes ({', '.join(objects.remotes) or 'none configured'}), "
            "nor in the workspace or the run's commit"
        )
    count = sum(path.is_file() for path in target.rglob("*")) if target.is_dir() else 1
    return Restored(md5, count, found_in)


def _write_configuration(root: Path, run: RunRecord, graph: StageGraph, folder: Path) -> list[Fault]:
    """params.yaml, dvc.yaml and the uncommitted patch as they were, each checked against the stage graph."""
    faults = []
    for name, sha256 in graph.get("files", {}).items():
        if run.record is not None:
            text = run.record.get("files", {}).get(name)
            data = None if text is None else text.encode()
            if data is None and name not in ("params.yaml", "dvc.yaml"):
                continue  # run.json keeps these two alone
        else:
            data = read_artifact(root, run.run_id, f"lineage/{name}")
        if data is None:
            faults.append(Fault(name, f"missing from the lineage of run {run.run_id}"))
        elif sha256_bytes(data) != sha256:
            faults.append(Fault(name, f"the copy kept with run {run.run_id} was altered"))
        elif name != LOCK:  # it names later stages too: the graph is what counts
            write_bytes_atomic(inside(folder, name), data)
    write_json(folder / "lineage.json", {"run": run.facts(), "graph": graph})
    return faults


def _verify(folder: Path, run: RunRecord, graph: StageGraph) -> list[Fault]:
    """Dependencies inside restored outputs by md5; images against manifests by sha256; the leak rules."""
    faults: list[Fault] = []
    outs = outputs(graph["stages"])
    for name, stage in graph["stages"].items():
        for dep in stage.get("deps", []):
            inner = any(covers(out, dep["path"]) for out in outs)
            if inner and path_md5(folder / dep["path"]) != dep.get("md5"):
                message = f"{name} used md5 {dep.get('md5')}: the outputs hold another version"
                faults.append(Fault(dep["path"], message))
    _, unsound = check_manifests(Workspace(folder), graph["stages"])
    faults += unsound
    table, _ = run.training_table or ("", "")
    if not table or not (folder / table).is_file():
        return [*faults, Fault(table, "the run's training table is not among the outputs")]
    for row in read_manifest(folder / table, SelectedRecord):
        if not shards.exists(folder, row.path) or sha256_bytes(shards.read(folder, row.path)) != row.sha256:
            faults.append(Fault(row.path, f"the run trained on sha256 {row.sha256}, which was not checked out"))
    return faults


@dataclass(frozen=True)
class Outside:
    """A dependency that no stage made, and what is known of the version that the run used."""

    path: str
    md5: str
    workspace: str  # "the same", "another version" or "missing"
    commit: str = ""  # "the same" or "not in the run's commit"; asked only where the workspace has another

    def as_json(self) -> dict[str, str]:
        told = asdict(self)
        return told if self.commit else {key: value for key, value in told.items() if key != "commit"}


def _outside(root: Path, run: RunRecord, graph: StageGraph) -> list[Outside]:
    """Dependencies that no stage made (code, photographs from elsewhere): whether the workspace still has them."""
    outs = outputs(graph["stages"])
    states = []
    for path, md5 in sorted(outside_dependencies(graph["stages"]).items()):
        if any(covers(path, out) for out in outs):
            continue  # a folder of outputs, which were checked out one by one
        now = path_md5(root / path)
        if now == md5:
            states.append(Outside(path, md5, "the same"))
            continue
        files = {name: md5_bytes(data) for name, data in files_at(root, run.commit, path).items()}
        in_git = files.get("") if "" in files else listing_md5(files)
        commit = "the same" if in_git == md5 else "not in the run's commit"
        states.append(Outside(path, md5, "missing" if now is None else "another version", commit))
    return states
