"""What code and data a run is made of, as hashes: git's facts and DVC's resolved stage graph at this moment.

dvc.lock is rewritten stage by stage and may never be committed, so a run keeps its own copy: the ancestors of the
running stage with the hash of each dependency and output, and its parameters' values.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, NotRequired, TypedDict

import yaml

from partsynth.errors import UserError
from partsynth.store.yaml_rule import FastLoader, Loader

LOCK = "dvc.lock"
VERSION = 1  # of the graph's form


class Item(TypedDict):
    """A dependency or an output as dvc.lock has it."""

    path: str
    hash: NotRequired[str]
    md5: NotRequired[str]  # a folder's ends in .dir; what DVC has not hashed yet has none
    size: NotRequired[int]
    nfiles: NotRequired[int]


class StageEntry(TypedDict, total=False):
    """What dvc.lock says of a stage."""

    cmd: str | list[str]
    deps: list[Item]
    params: dict[str, dict[str, Any]]  # file -> dotted key -> value
    outs: list[Item]


Stages = dict[str, StageEntry]


class Disagreement(TypedDict):
    """A dependency whose md5 is not that of the output it comes from."""

    stage: str
    path: str
    dependency: str | None
    output: str | None


class StageGraph(TypedDict):
    """A stage with all its ancestors at one moment, as a run keeps it (``lineage/stages.json``)."""

    version: int
    stage: str | None  # None outside DVC
    stages: Stages  # the running one has no outputs
    disagree: list[Disagreement]  # empty in a sound graph
    files: NotRequired[dict[str, str]]  # name -> sha256 of what the run keeps beside it


DEEP = 500
HASH = re.compile(r"\w+(\.dir)?")  # names a file of the cache


def read_lock(root: Path) -> Stages:
    """The stages of dvc.lock; empty where there is no dvc.lock yet.

    Raises
    ------
    UserError
        where it is no YAML.
    """
    path = root / LOCK
    try:
        text = path.read_text(encoding="utf-8")
        loaded = yaml.load(text, Loader=Loader if _may_be_deep(text) else FastLoader)
        stages = {} if loaded is None else loaded.get("stages", {})
        for stage in stages.values():
            if not all(isinstance(values, dict) for values in stage.get("params", {}).values()):
                raise TypeError("parameters that are no mapping")
            for entry in [*stage.get("deps", []), *stage.get("outs", [])]:
                if not isinstance(entry["path"], str) or not HASH.fullmatch(entry.get("md5", "0")):
                    raise TypeError(f"a path that is no text, or no hash: {str(entry)[:80]}")
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        told = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} is no lock file of DVC ({told}): git checkout {LOCK}, or dvc repro") from None
    return stages


def _may_be_deep(text: str) -> bool:
    """Whether it may be nested so deeply that the parser in C takes the whole process down."""
    return text.count("[") + text.count("{") > DEEP or "- " * DEEP in text


def covers(outer: str, inner: str) -> bool:
    """Whether path ``inner`` is ``outer`` or lies below it."""
    return PurePosixPath(inner).is_relative_to(PurePosixPath(outer))


def outputs(stages: Stages) -> dict[str, str]:
    """Path -> md5 of every output that has been hashed."""
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", []) if "md5" in out}


def outside_dependencies(stages: Stages) -> dict[str, str]:
    """Path -> md5 of the dependencies that no stage made: code, images from elsewhere."""
    made = outputs(stages)
    return {
        dep["path"]: dep["md5"]
        for stage in stages.values()
        for dep in stage.get("deps", [])
        if "md5" in dep and not any(covers(out, dep["path"]) for out in made)
    }


def makers(stages: Stages, path: str) -> list[str]:
    """Stages with an output that is ``path``, holds it, or lies below it."""
    return sorted(
        name
        for name, stage in stages.items()
        if any(covers(out["path"], path) or covers(path, out["path"]) for out in stage.get("outs", []))
    )


def ancestors(stages: Stages, paths: Iterable[str]) -> Stages:
    """The stages that made ``paths``, and theirs, in name order."""
    reached: Stages = {}
    waiting = list(paths)
    while waiting:
        for name in makers(stages, waiting.pop()):
            if name not in reached:
                reached[name] = stages[name]
                waiting += [dep["path"] for dep in stages[name].get("deps", [])]
    return dict(sorted(reached.items()))


def digest_of(stages: Stages, path: str) -> str | None:
    """DVC's md5 of a path named as an output, else as a dependency, of any stage."""
    made = (out for stage in stages.values() for out in stage.get("outs", []))
    used = (dep for stage in stages.values() for dep in stage.get("deps", []))
    return next((item["md5"] for item in (*made, *used) if item["path"] == path and "md5" in item), None)


def running_stage(root: Path, name: str) -> StageEntry:
    """The entry that dvc.lock will hold for a stage while it runs: command, parameters, hashes of dependencies.

    ``name`` may be DVC's address, ``dvc.yaml:train@real-0``.
    """
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    repo = Repo(str(root))
    try:
        stage = next(s for s in repo.index.stages if getattr(s, "name", None) == name.rpartition(":")[2])
        stage.save_deps()
        deps: list[Item] = []
        params: dict[str, dict[str, Any]] = {}
        for dep in stage.deps:
            if isinstance(dep, ParamsDependency):
                params[dep.def_path] = dict(sorted(dep.hash_info.value.items()))
            else:
                item: Item = {"path": dep.def_path, "hash": "md5", "md5": dep.hash_info.value}
                meta = dep.meta.to_dict()
                if "size" in meta:
                    item["size"] = meta["size"]
                if "nfiles" in meta:
                    item["nfiles"] = meta["nfiles"]
                deps.append(item)
        deps.sort(key=lambda dep: dep["path"])
        return {"cmd": stage.cmd, "deps": deps, "params": params, "outs": []}
    finally:
        repo.close()


def stage_graph(root: Path, stage: str | None, inputs: Iterable[str]) -> StageGraph:
    """The ancestors of a running stage (or, outside DVC, of the ``inputs``) with all hashes of this moment."""
    lock, wanted = read_lock(root), list(inputs)
    own: Stages = {}
    if stage is not None:
        own = {stage: running_stage(root, stage)}
        wanted += [dep["path"] for dep in own[stage]["deps"]]
        lock.pop(stage, None)  # of its last run
    stages = {**ancestors(lock, wanted), **own}
    made = {out["path"]: out.get("md5") for entry in stages.values() for out in entry.get("outs", [])}
    disagree: list[Disagreement] = [
        {"stage": name, "path": dep["path"], "dependency": dep.get("md5"), "output": made[dep["path"]]}
        for name, entry in sorted(stages.items())
        for dep in entry.get("deps", [])
        if dep["path"] in made and made[dep["path"]] != dep.get("md5")
    ]
    return {"version": VERSION, "stage": stage, "stages": stages, "disagree": disagree}
