"""The workspace against its hashes, its manifests and the rules against leaks. Every fault is named, none is mended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from partsynth.audit.manifests import manifest_faults
from partsynth.audit.workspace import Fault, Workspace
from partsynth.errors import UserError
from partsynth.lineage.digests import listing_md5
from partsynth.lineage.graph import LOCK, covers, read_lock
from partsynth.lineage.objects import Objects


def check_workspace(root: Path) -> tuple[dict[str, Any], list[Fault]]:
    """Check everything; returns what was looked at (counts) and the faults, by path.

    Raises
    ------
    UserError
        where there is nothing to check: no DVC repository, no dvc.lock.
    """
    root = root.resolve()
    stages = read_lock(root)
    if not stages:
        raise UserError(f"{root / LOCK} is missing: nothing has run here yet (dvc repro)")
    faults: list[Fault] = []
    with Objects(root) as objects:
        space = Workspace(root, objects.ignored)
        pipeline = objects.pipeline()
        # DVC keeps the entries of stages that dvc.yaml has no longer; they are no part of the project
        left_over = stages.keys() - pipeline.keys()
        stages = {name: stage for name, stage in stages.items() if name in pipeline}
        listings = _outputs(space, objects, stages, pipeline, faults)
        _stages(space, stages, pipeline, listings, faults)
    counts = {"stages": len(stages), "files": sum(map(len, listings.values()))}
    if left_over:
        counts["stages in dvc.lock that dvc.yaml has no longer"] = len(left_over)
    counts |= manifest_faults(space, stages, faults)
    unique = sorted(set(faults), key=lambda fault: (fault.path, fault.message))
    return counts, unique


def _outputs(
    space: Workspace, objects: Objects, stages: dict[str, Any], pipeline: dict[str, Any], faults: list[Fault]
) -> dict[str, dict[str, str]]:
    """Every output against dvc.lock, in the workspace and in the cache; returns path -> {relative path: md5}."""
    uncached = {path for stage in pipeline.values() for path in stage["uncached"]}
    listings: dict[str, dict[str, str]] = {}
    for name, stage in sorted(stages.items()):
        for out in stage.get("outs", []):
            path, md5 = out["path"], out.get("md5")
            if md5 is None:
                faults.append(Fault(path, f"dvc.lock has no hash of this output of {name}"))
                continue
            is_folder = md5.endswith(".dir")
            here = (space.root / path).is_dir() if is_folder else (space.root / path).is_file()
            actual = (space.files(path) if is_folder else {"": space.digest(path)}) if here else {}
            if not here:
                faults.append(Fault(path, "missing from the workspace (dvc checkout restores it)"))
            if is_folder:
                expected = _listing(objects, md5, path, path in uncached, actual, faults)
            else:
                expected = {"": md5}
            if expected is None:  # unknown file by file: the whole is still known
                if here and listing_md5(actual) != md5:
                    faults.append(Fault(path, f"the folder differs from dvc.lock ({md5}), {name}'s output"))
                continue
            listings[path] = expected
            if here:
                _compare(path, expected, actual, faults)
            if path not in uncached:
                _cached(space, objects, path, expected, faults)
    return listings


def _listing(
    objects: Objects, md5: str, path: str, uncached: bool, actual: dict[str, str], faults: list[Fault]
) -> dict[str, str] | None:
    if listing_md5(actual) == md5:
        expected: dict[str, str] | None = actual
    else:
        expected = None
    if not uncached:
        try:
            expected = objects.listing(md5)
        except UserError as error:
            faults.append(Fault(path, f"the folder's listing cannot be read: {error}"))
    return expected


def _compare(path: str, expected: dict[str, str], actual: dict[str, str], faults: list[Fault]) -> None:
    for name in sorted(expected.keys() | actual.keys()):
        full = f"{path}/{name}" if name else path
        if name not in actual:
            faults.append(Fault(full, "missing from the workspace (dvc checkout restores it)"))
        elif name not in expected:
            faults.append(Fault(full, "not among the outputs that dvc.lock records"))
        elif actual[name] != expected[name]:
            faults.append(Fault(full, f"altered: md5 {actual[name]}, dvc.lock says {expected[name]}"))


def _cached(space: Workspace, objects: Objects, path: str, expected: dict[str, str], faults: list[Fault]) -> None:
    for name, md5 in sorted(expected.items()):
        full = f"{path}/{name}" if name else path
        cached = objects.path(md5)
        here = space.root / full
        if here.is_file() and cached.is_file() and here.samefile(cached):
            continue  # a link: one file, checked as the workspace's
        try:
            objects.read(md5)
        except UserError as error:
            faults.append(Fault(full, str(error)))


def _stages(
    space: Workspace,
    stages: dict[str, Any],
    pipeline: dict[str, Any],
    listings: dict[str, dict[str, str]],
    faults: list[Fault],
) -> None:
    """What each stage used when it ran, against what there is now: commands, parameters, dependencies."""
    for name, stage in sorted(pipeline.items()):
        if name not in stages and not stage["frozen"]:
            faults.append(Fault("dvc.lock", f"stage {name} has not run (dvc repro)"))
    values: dict[str, Any] = {}
    for name, stage in sorted(stages.items()):
        known = pipeline[name]
        if known["frozen"]:
            continue
        if stage.get("cmd") != known["cmd"]:
            faults.append(Fault("dvc.yaml", f"the command of {name} changed since it ran (dvc repro)"))
        for file, params in stage.get("params", {}).items():
            if file not in values:
                values[file] = _yaml(space.root / file)
            for key, value in params.items():
                for changed in _changed(key, value, _lookup(values[file], key)):
                    faults.append(Fault(file, f"{changed} changed since {name} ran (dvc repro)"))
        for dep in stage.get("deps", []):
            now = _now(space, dep["path"], listings)
            if now is None:
                faults.append(Fault(dep["path"], f"missing, {name} depends on it"))
            elif now != dep.get("md5"):
                faults.append(Fault(dep["path"], f"{name} ran on another version (md5 {dep.get('md5')}): dvc repro"))


def _now(space: Workspace, path: str, listings: dict[str, dict[str, str]]) -> str | None:
    """The digest of a dependency: of an output (or a part of one) what dvc.lock says, of another file what lies there.

    So one flipped byte is named once, and not again for every stage that reads the folder.
    """
    for out, files in listings.items():
        if out == path:
            return listing_md5(files) if "" not in files else files[""]
        if covers(out, path):
            inner = path[len(out) + 1 :]
            below = {name[len(inner) + 1 :]: md5 for name, md5 in files.items() if name.startswith(inner + "/")}
            return files.get(inner) or (listing_md5(below) if below else None)
    held = {out: files for out, files in listings.items() if covers(path, out)}
    if held:
        joined = {
            name: md5
            for name, md5 in space.files(path).items()
            if not any(covers(out, f"{path}/{name}") for out in held)
        }
        for out, files in held.items():
            prefix = out[len(path) + 1 :]
            joined |= {f"{prefix}/{name}" if name else prefix: md5 for name, md5 in files.items()}
        return listing_md5(joined)
    outside = Path(path)
    if outside.is_absolute() or ".." in outside.parts:
        from partsynth.lineage.digests import path_md5

        return path_md5(space.root / outside)
    return space.digest(path)


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError):
        return {}


def _lookup(values: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values:
            return None
        values = values[part]
    return values


def _changed(key: str, before: Any, now: Any) -> Iterator[str]:
    """The innermost keys whose values differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted(before.keys() | now.keys()):
            yield from _changed(f"{key}.{name}", before.get(name), now.get(name))
    elif before != now:
        yield key
