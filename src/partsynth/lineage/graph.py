"""What code and data a run is made of, as hashes: git's facts and DVC's resolved stage graph at this moment.

dvc.lock is rewritten stage by stage and may never be committed, so a run keeps its own copy: the ancestors of the
running stage with the hash of each dependency and output, and its parameters' values.
"""

from __future__ import annotations

import logging
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from partsynth.errors import UserError

LOCK = "dvc.lock"
VERSION = 1  # of the graph's form
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_lock(root: Path) -> dict[str, Any]:
    """The stages of dvc.lock: name -> {cmd, deps, params, outs}; empty where there is no dvc.lock yet."""
    try:
        loaded = yaml.load((root / LOCK).read_text(), Loader=_Loader)
    except FileNotFoundError:
        return {}
    except yaml.YAMLError as error:
        raise UserError(f"{root / LOCK} is not valid YAML: {error}") from None
    return (loaded or {}).get("stages", {})


def covers(outer: str, inner: str) -> bool:
    """Whether path ``inner`` is ``outer`` or lies below it."""
    return PurePosixPath(inner).is_relative_to(PurePosixPath(outer))


def makers(stages: dict[str, Any], path: str) -> list[str]:
    """Stages with an output that is ``path``, holds it, or lies below it."""
    return sorted(
        name
        for name, stage in stages.items()
        if any(covers(out["path"], path) or covers(path, out["path"]) for out in stage.get("outs", []))
    )


def ancestors(stages: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """The stages that made ``paths``, and theirs, in name order."""
    reached: dict[str, Any] = {}
    waiting = list(paths)
    while waiting:
        for name in makers(stages, waiting.pop()):
            if name not in reached:
                reached[name] = stages[name]
                waiting += [dep["path"] for dep in stages[name].get("deps", [])]
    return dict(sorted(reached.items()))


def digest_of(stages: dict[str, Any], path: str) -> str | None:
    """DVC's md5 of a path named as an output or a dependency of any stage."""
    for kind in ("outs", "deps"):
        for stage in stages.values():
            for item in stage.get(kind, []):
                if item["path"] == path and "md5" in item:
                    return item["md5"]
    return None


def running_stage(root: Path, name: str) -> dict[str, Any]:
    """The entry that dvc.lock will hold for a stage while it runs: command, parameters, hashes of dependencies."""
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    repo = Repo(str(root))
    try:
        stage = next(s for s in repo.index.stages if getattr(s, "name", None) == name.rpartition(":")[2])
        stage.save_deps()
        deps, params = [], {}
        for dep in stage.deps:
            if isinstance(dep, ParamsDependency):
                params[dep.def_path] = dict(sorted(dep.hash_info.value.items()))
            else:
                size = {k: v for k, v in dep.meta.to_dict().items() if k in ("size", "nfiles")}
                deps.append({"path": dep.def_path, "hash": "md5", "md5": dep.hash_info.value, **size})
        deps.sort(key=lambda dep: dep["path"])
        return {"cmd": stage.cmd, "deps": deps, "params": params, "outs": []}
    finally:
        repo.close()


def stage_graph(root: Path, stage: str | None, inputs: list[str]) -> dict[str, Any]:
    """The ancestors of a running stage (or, outside DVC, of the ``inputs``) with all hashes of this moment.

    Returns
    -------
    dict
        ``version``, ``stage``, ``stages`` (name -> an entry as in dvc.lock; the running one without outputs) and
        ``disagree``: dependencies whose hash is not that of the output they come from (empty in a sound graph).
    """
    lock = read_lock(root)
    own: dict[str, Any] = {}
    if stage is not None:
        own = {stage: running_stage(root, stage)}
        inputs = [*inputs, *(dep["path"] for dep in own[stage]["deps"])]
        lock.pop(stage, None)  # of its last run
    stages = {**ancestors(lock, inputs), **own}
    made = {out["path"]: out.get("md5") for entry in stages.values() for out in entry.get("outs", [])}
    disagree = [
        {"stage": name, "path": dep["path"], "dependency": dep.get("md5"), "output": made[dep["path"]]}
        for name, entry in sorted(stages.items())
        for dep in entry.get("deps", [])
        if dep["path"] in made and made[dep["path"]] != dep.get("md5")
    ]
    return {"version": VERSION, "stage": stage, "stages": stages, "disagree": disagree}
