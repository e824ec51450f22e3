"""Exactly the data that a run's model was trained on, written out and verified."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

from partsynth.audit.manifests import check_manifests
from partsynth.audit.result import Result
from partsynth.audit.runs import RunRecord, facts, find_run, outputs, stage_graph
from partsynth.audit.tables import table_bytes
from partsynth.audit.workspace import Fault
from partsynth.errors import UserError
from partsynth.lineage import git as lineage_git
from partsynth.lineage.digests import listing_md5, path_md5
from partsynth.lineage.graph import LOCK, covers
from partsynth.lineage.objects import Objects
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import SelectedRecord
from partsynth.store.files import inside, write_bytes_atomic, write_json
from partsynth.store.hashing import sha256_bytes, sha256_file
from partsynth.tracking.query import read_artifact


def run(root: Path, name: str, out: Path) -> Result:
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
    chosen = find_run(root, name)
    graph = stage_graph(root, chosen)
    outs = outputs(graph)
    faults: list[Fault] = []
    for item in chosen.inputs:
        if item.path in outs and outs[item.path] != item.digest:
            faults.append(Fault(item.path, f"MLflow names digest {item.digest}, the stage graph {outs[item.path]}"))
    if chosen.selected is None:
        faults.append(Fault(chosen.run_id, "the run names no training table"))
    partial = out.with_name(out.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    restored: dict[str, dict[str, Any]] = {}
    try:
        with Objects(root) as objects:
            objects.fetch(outs.values())
            for path, md5 in sorted(outs.items()):
                try:
                    files, found = _restore(root, objects, chosen, path, md5, partial)
                    restored[path] = {"md5": md5, "files": len(files), "from": found}
                except UserError as error:
                    faults += [Fault(path, line) for line in str(error).splitlines()]
            if chosen.selected and chosen.selected[0] not in outs:
                try:
                    write_bytes_atomic(inside(partial, chosen.selected[0]), table_bytes(objects, chosen))
                except UserError as error:
                    faults.append(Fault(chosen.selected[0], str(error)))
        _write_papers(root, chosen, graph, partial, faults)
        if not faults:
            faults += _verify_checkout(partial, graph, chosen)
        if faults:
            return Result("run", {"run": facts(chosen), "checked_out": None, "outputs": restored}, faults)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    outside = _outside(root, chosen, graph, outs)
    data = {"run": facts(chosen), "checked_out": str(out), "outputs": restored, "not_checked_out": outside}
    return Result("run", data)


def _restore(
    root: Path, objects: Objects, chosen: RunRecord, path: str, md5: str, folder: Path
) -> tuple[dict[str, str], str]:
    """Write one output; one that DVC does not cache (the base model) comes from the workspace or git, by its hash."""
    target = inside(folder, path)
    if objects.path(md5).is_file():
        return objects.restore(md5, target), "cache"
    if path_md5(root / path) == md5:
        if (root / path).is_dir():
            shutil.copytree(root / path, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            write_bytes_atomic(target, (root / path).read_bytes())
        found = "workspace"
    else:
        for name, data in from_git(root, chosen.tags.get("git_commit", ""), path).items():
            write_bytes_atomic(target / name if name else target, data)
        found = "git"
    if path_md5(target) != md5:
        shutil.rmtree(target, ignore_errors=True)
        raise UserError(
            f"{md5} is in neither cache nor remotes ({', '.join(objects.remotes) or 'none configured'}), "
            "nor in the workspace or the run's commit"
        )
    if target.is_dir():
        return {p.relative_to(target).as_posix(): "" for p in target.rglob("*") if p.is_file()}, found
    return {target.name: md5}, found


def from_git(root: Path, commit: str, path: str) -> dict[str, bytes]:
    """Relative path -> bytes of a file or folder of a commit; empty where it has none."""
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        return {}
    archive = lineage_git.git(root, "archive", "--format=tar", commit, "--", path)
    if archive is None:
        return {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {m.name[len(path) + 1 :]: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}


def _write_papers(root: Path, chosen: RunRecord, graph: dict[str, Any], folder: Path, faults: list[Fault]) -> None:
    """params.yaml, dvc.yaml and the uncommitted patch as they were, each checked against the stage graph."""
    for name, sha256 in graph.get("files", {}).items():
        if chosen.record is not None:
            text = chosen.record.get("files", {}).get(name)
            data = None if text is None else text.encode()
            if data is None and name not in ("params.yaml", "dvc.yaml"):
                continue  # run.json keeps these two alone
        else:
            data = read_artifact(root, chosen.run_id, f"lineage/{name}")
        if data is None:
            faults.append(Fault(name, f"missing from the lineage of run {chosen.run_id}"))
        elif sha256_bytes(data) != sha256:
            faults.append(Fault(name, f"the copy kept with run {chosen.run_id} was altered"))
        elif name != LOCK:  # it names later stages too: the graph is what counts
            write_bytes_atomic(folder / name, data)
    write_json(folder / "lineage.json", {"run": facts(chosen), "graph": graph})


def _verify_checkout(folder: Path, graph: dict[str, Any], chosen: RunRecord) -> list[Fault]:
    """Dependencies inside restored outputs by md5; pictures against manifests by sha256; the leak rules."""
    faults: list[Fault] = []
    outs = outputs(graph)
    for name, stage in graph["stages"].items():
        for dep in stage.get("deps", []):
            if any(covers(out, dep["path"]) for out in outs) and path_md5(folder / dep["path"]) != dep["md5"]:
                faults.append(Fault(dep["path"], f"{name} used md5 {dep['md5']}: the outputs hold another version"))
    _, leaks = check_manifests(folder, graph["stages"])
    faults += leaks
    table = folder / chosen.selected[0]
    if not table.is_file():
        return [*faults, Fault(chosen.selected[0], "the run's training table is not among the outputs")]
    for row in read_manifest(table, SelectedRecord):
        path = inside(folder, row.path)
        if not path.is_file() or sha256_file(path) != row.sha256:
            faults.append(Fault(row.path, f"the run trained on sha256 {row.sha256}, which was not checked out"))
    return faults


def _outside(root: Path, chosen: RunRecord, graph: dict[str, Any], outs: dict[str, str]) -> list[dict[str, str]]:
    """Dependencies that no stage made (code, photographs from elsewhere): whether the workspace still has them."""
    deps = {
        dep["path"]: dep["md5"]
        for stage in graph["stages"].values()
        for dep in stage.get("deps", [])
        if not any(covers(out, dep["path"]) or covers(dep["path"], out) for out in outs)
    }
    states = []
    for path, md5 in sorted(deps.items()):
        now = path_md5(root / path)
        state = "missing" if now is None else "the same" if now == md5 else "another version"
        entry = {"path": path, "md5": md5, "workspace": state}
        if state != "the same":
            files = {
                name: hashlib.md5(data, usedforsecurity=False).hexdigest()
                for name, data in from_git(root, chosen.tags.get("git_commit", ""), path).items()
            }
            in_git = files.get("") if "" in files else listing_md5(files)
            entry["commit"] = "the same" if in_git == md5 else "not in the run's commit"
        states.append(entry)
    return states
