"""What differs between two runs."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from partsynth.audit.result import Fault, Result
from partsynth.audit.runs import RunRecord, find_run, recorded_graph
from partsynth.audit.tables import TrainedImage, trained_images
from partsynth.audit.versions import read_listing
from partsynth.errors import UserError
from partsynth.lineage.digests import folder_files, listing_md5, md5_bytes, path_md5
from partsynth.lineage.git import changed_between, files_at
from partsynth.lineage.graph import StageGraph, outputs, outside_dependencies
from partsynth.lineage.objects import Objects

CODE_TAGS = ("git_commit", "git_dirty", "code_sha256", "partsynth_version", "lock_sha256", "base_sha256", "device")
ABSENT = "(not used)"


def diff_runs(root: Path, first: str, second: str) -> Result:
    """What differs between two runs: data (image by image), parameters, code.

    Raises
    ------
    UserError
        where one of the runs is unknown, or has no sound stage graph.
    """
    root = root.resolve()
    runs = find_run(root, first), find_run(root, second)
    graphs = recorded_graph(root, runs[0]), recorded_graph(root, runs[1])
    faults: list[Fault] = []
    with Objects(root) as objects:
        one, two = (trained_images(objects, run, faults) for run in runs)
        data = {
            "runs": [run.facts() for run in runs],
            "training_pictures": compare_tables(one, two),
            "files": _compare_outputs(root, objects, runs, graphs, faults),
            "parameters": _compare_values(*(_parameters(graph) for graph in graphs)),
            "code": _compare_code(root, runs, graphs),
        }
    return Result("diff", data, faults)


def compare_tables(first: tuple[TrainedImage, ...], second: tuple[TrainedImage, ...]) -> dict[str, Any]:
    """Images (by path) that one of two training tables has, that changed, or that have another role."""
    one, two = _by_path(first), _by_path(second)
    both = one.keys() & two.keys()
    return {
        "first": sum(map(len, one.values())),
        "second": sum(map(len, two.values())),
        "only_in_first": sorted(one.keys() - two.keys()),
        "only_in_second": sorted(two.keys() - one.keys()),
        "changed": sorted(path for path in both if {*one[path].values()} != {*two[path].values()}),
        "other_role": sorted(path for path in both if one[path].keys() != two[path].keys()),
    }


def _by_path(table: tuple[TrainedImage, ...]) -> dict[str, dict[str, str]]:
    """Path -> role -> sha256."""
    roles: dict[str, dict[str, str]] = defaultdict(dict)
    for row in table:
        roles[row.path][row.role] = row.sha256
    return roles


def _compare_outputs(
    root: Path,
    objects: Objects,
    runs: tuple[RunRecord, RunRecord],
    graphs: tuple[StageGraph, StageGraph],
    faults: list[Fault],
) -> dict[str, dict[str, list[str]]]:
    """Output -> files added, removed and changed from the first run to the second; equal outputs are left out."""
    differences = {}
    one, two = (outputs(graph["stages"]) for graph in graphs)
    for path in sorted(one.keys() | two.keys()):
        if one.get(path) == two.get(path):
            continue
        try:
            left = _files(root, objects, runs[0], path, one.get(path))
            right = _files(root, objects, runs[1], path, two.get(path))
        except UserError as error:
            faults.append(Fault(path, f"cannot be compared file by file: {error}"))
            continue
        differences[path] = {
            "removed": sorted(left.keys() - right.keys()),
            "added": sorted(right.keys() - left.keys()),
            "changed": sorted(name for name in left.keys() & right.keys() if left[name] != right[name]),
        }
    return differences


def _files(root: Path, objects: Objects, run: RunRecord, path: str, md5: str | None) -> dict[str, str]:
    """Relative path -> md5 of an output; one that DVC does not cache is looked for in the workspace and in git."""
    if md5 is None:
        return {}
    if not md5.endswith(".dir"):
        return {path.rpartition("/")[2]: md5}
    if not objects.path(md5).is_file():
        if path_md5(root / path) == md5:
            return folder_files(root / path)
        files = {name: md5_bytes(data) for name, data in files_at(root, run.commit, path).items()}
        if listing_md5(files) == md5:
            return files
    return read_listing(objects, md5)


def _parameters(graph: StageGraph) -> dict[str, Any]:
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


def _compare_values(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    keys = sorted(one.keys() | two.keys())
    pairs = {key: {"first": one.get(key, ABSENT), "second": two.get(key, ABSENT)} for key in keys}
    return {key: pair for key, pair in pairs.items() if pair["first"] != pair["second"]}


def _compare_code(
    root: Path, runs: tuple[RunRecord, RunRecord], graphs: tuple[StageGraph, StageGraph]
) -> dict[str, Any]:
    sides = []
    for run, graph in zip(runs, graphs, strict=True):
        patch = graph.get("files", {}).get("uncommitted.patch", "none")
        sides.append({tag: run.tags.get(tag, "unknown") for tag in CODE_TAGS} | {"uncommitted_changes_sha256": patch})
    differences = _compare_values(*sides)
    if runs[0].commit != runs[1].commit:
        changed = changed_between(root, runs[0].commit, runs[1].commit)
        differences["files changed between the commits"] = "unknown: git lacks a commit" if changed is None else changed
    one, two = (outside_dependencies(graph["stages"]) for graph in graphs)
    for name, alone in (("first", one.keys() - two.keys()), ("second", two.keys() - one.keys())):
        if alone:  # as between runs of two layouts of the code
            differences[f"dependencies of the {name} alone"] = sorted(alone)
    differences["dependencies changed"] = sorted(path for path in one.keys() & two.keys() if one[path] != two[path])
    return differences
