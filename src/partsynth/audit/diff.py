"""What differs between two runs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from partsynth.audit.checkout import from_git
from partsynth.audit.result import Result
from partsynth.audit.runs import RunRecord, facts, find_run, outputs, stage_graph
from partsynth.audit.tables import training_table
from partsynth.audit.versions import read_listing
from partsynth.audit.workspace import Fault
from partsynth.errors import UserError
from partsynth.lineage import git as lineage_git
from partsynth.lineage.digests import folder_files, listing_md5, path_md5
from partsynth.lineage.graph import covers
from partsynth.lineage.objects import Objects


def diff(root: Path, first: str, second: str) -> Result:
    """What differs between two runs: data (picture by picture), parameters, code."""
    root = root.resolve()
    a, b = find_run(root, first), find_run(root, second)
    graph_a, graph_b = stage_graph(root, a), stage_graph(root, b)
    faults: list[Fault] = []
    with Objects(root) as objects:
        data = {
            "runs": [facts(a), facts(b)],
            "training_pictures": _diff_tables(objects, a, b, faults),
            "files": _diff_outputs(root, objects, [(a, outputs(graph_a)), (b, outputs(graph_b))], faults),
            "parameters": _diff_values(_parameters(graph_a), _parameters(graph_b)),
            "code": _diff_code(root, a, b, graph_a, graph_b),
        }
    return Result("diff", data, faults)


def _diff_tables(objects: Objects, a: RunRecord, b: RunRecord, faults: list[Fault]) -> dict[str, Any]:
    tables: list[dict[str, dict[str, str]]] = [{}, {}]  # path -> role -> sha256
    for table, chosen in zip(tables, (a, b), strict=True):
        for row in training_table(objects, chosen, faults):
            table.setdefault(row["path"], {})[row["role"]] = row["sha256"]
    one, two = tables
    both = one.keys() & two.keys()
    return {
        "first": sum(map(len, one.values())),
        "second": sum(map(len, two.values())),
        "only_in_first": sorted(one.keys() - two.keys()),
        "only_in_second": sorted(two.keys() - one.keys()),
        "changed": sorted(path for path in both if {*one[path].values()} != {*two[path].values()}),
        "other_role": sorted(path for path in both if one[path].keys() != two[path].keys()),
    }


def _diff_outputs(
    root: Path, objects: Objects, runs: list[tuple[RunRecord, dict[str, str]]], faults: list[Fault]
) -> dict[str, dict[str, list[str]]]:
    """Output -> files added, removed and changed from the first run to the second; equal outputs are left out."""
    found = {}
    (_, one), (_, two) = runs
    for path in sorted(one.keys() | two.keys()):
        if one.get(path) == two.get(path):
            continue
        try:
            left, right = (_files(root, objects, chosen, path, outs.get(path)) for chosen, outs in runs)
        except UserError as error:
            faults.append(Fault(path, f"cannot be compared file by file: {error}"))
            continue
        found[path] = {
            "removed": sorted(left.keys() - right.keys()),
            "added": sorted(right.keys() - left.keys()),
            "changed": sorted(name for name in left.keys() & right.keys() if left[name] != right[name]),
        }
    return found


def _files(root: Path, objects: Objects, chosen: RunRecord, path: str, md5: str | None) -> dict[str, str]:
    """Relative path -> md5 of an output; one that DVC does not cache is looked for in the workspace and in git."""
    name = path.rpartition("/")[2]
    if md5 is None:
        return {}
    if not md5.endswith(".dir"):
        return {name: md5}
    if not objects.path(md5).is_file():
        if path_md5(root / path) == md5:
            return folder_files(root / path)
        files = {
            inner: hashlib.md5(data, usedforsecurity=False).hexdigest()
            for inner, data in from_git(root, chosen.tags.get("git_commit", ""), path).items()
        }
        if listing_md5(files) == md5:
            return files
    return read_listing(objects, md5)


def _parameters(graph: dict[str, Any]) -> dict[str, Any]:
    """Dotted key -> value over all stages; a train stage's own name does not matter."""
    flat: dict[str, Any] = {}

    def walk(key: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                walk(f"{key}.{name}", inner)
        else:
            flat[key] = value

    for stage in graph["stages"].values():
        for params in stage.get("params", {}).values():
            for key, value in params.items():
                walk(key, value)
    return flat


def _diff_values(one: dict[str, Any], two: dict[str, Any]) -> dict[str, dict[str, Any]]:
    absent = "(not used)"
    keys = sorted(one.keys() | two.keys())
    pairs = {key: {"first": one.get(key, absent), "second": two.get(key, absent)} for key in keys}
    return {key: pair for key, pair in pairs.items() if pair["first"] != pair["second"]}


def _diff_code(
    root: Path, a: RunRecord, b: RunRecord, graph_a: dict[str, Any], graph_b: dict[str, Any]
) -> dict[str, Any]:
    tags = ("git_commit", "git_dirty", "code_sha256", "partsynth_version", "lock_sha256", "base_sha256", "device")
    sides = []
    for chosen, graph in ((a, graph_a), (b, graph_b)):
        patch = graph.get("files", {}).get("uncommitted.patch", "none")
        sides.append({tag: chosen.tags.get(tag, "unknown") for tag in tags} | {"uncommitted_changes_sha256": patch})
    found: dict[str, Any] = _diff_values(*sides)
    deps = []
    for graph in (graph_a, graph_b):
        outs = outputs(graph)
        deps.append(
            {
                dep["path"]: dep["md5"]
                for stage in graph["stages"].values()
                for dep in stage.get("deps", [])
                if not any(covers(out, dep["path"]) for out in outs)
            }
        )
    commits = [run.tags.get("git_commit", "") for run in (a, b)]
    if commits[0] != commits[1]:
        named = lineage_git.git(root, "diff", "--name-only", "--relative", *commits, "--")
        found["files changed between the commits"] = (
            "unknown: git lacks a commit" if named is None else (named.decode().splitlines())
        )
    found["dependencies changed"] = sorted(
        path for path in deps[0].keys() & deps[1].keys() if deps[0][path] != deps[1][path]
    )
    return found
