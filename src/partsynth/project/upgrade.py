"""`partsynth upgrade`: record the code that is there now, so that DVC reruns what it makes otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from partsynth import __version__
from partsynth.config.load import read_yaml
from partsynth.errors import UserError
from partsynth.lineage.code import PACKAGE, code_paths, stage_module
from partsynth.project.code import STAMP, changed_stages, stamp
from partsynth.project.dvcfile import SOURCE, replace_dependencies, step_of
from partsynth.project.shipped import checkout
from partsynth.store.files import write_json, write_text_atomic
from partsynth.store.yaml_text import parsed, written

GRAPH = "dvc.yaml"


def upgrade(root: Path) -> str:
    """Record each stage's code: in a project in partsynth.json, in the repository in dvc.yaml; returns what changed.

    Raises
    ------
    UserError
        where ``root`` is neither, or the repository of another installation.
    """
    if (root / STAMP).is_file():
        return _record(root)
    if (root / "pyproject.toml").is_file() and (root / SOURCE / "__init__.py").is_file():
        if checkout() != root.resolve():
            raise UserError(f"{root} is not the repository that runs ({PACKAGE}): pip install -e {root}, then again")
        return _depend(root / GRAPH)
    raise UserError(f"no {STAMP} here: run this in a project made by `partsynth init`, or in partsynth's repository")


def outdated(root: Path) -> list[str]:
    """Stages of the repository whose dvc.yaml names other code than they run; none in a project."""
    return list(_rewrite(parsed((root / GRAPH).read_text()))) if checkout() == root.resolve() else []


def _record(root: Path) -> str:
    """Write the installed code's hashes into a project's partsynth.json."""
    stages = [name for name in read_yaml(root / GRAPH).get("stages", {}) if stage_module(name).is_file()]
    try:
        changed = changed_stages(root)
    except UserError:
        changed = stages
    write_json(root / STAMP, stamp(stages))
    if not changed:
        return f"{STAMP} is up to date with partsynth {__version__}"
    return f"recorded partsynth {__version__}; `dvc repro` will run again: {', '.join(changed)}, and what uses them"


def _depend(path: Path) -> str:
    """Write the modules that each stage runs into the repository's dvc.yaml."""
    graph = parsed(path.read_text())
    changes = [f"  {name}: {change}" for name, changes in _rewrite(graph).items() for change in changes]
    if not changes:
        return f"{path.name} names the code that each stage runs: nothing to change"
    write_text_atomic(path, written(graph))
    return "\n".join([f"{path.name}: code that stages depend on", *changes, "`dvc repro` runs these stages again"])


def _rewrite(graph: Any) -> dict[str, list[str]]:
    """Give each stage of the repository's dvc.yaml its code, a frozen one none; returns what changed, by stage."""
    changes = {}
    for name, stage in graph["stages"].items():
        step = step_of(stage)
        before = [dep for dep in map(str, step.get("deps", [])) if dep.startswith(SOURCE)]
        after = [] if stage.get("frozen") else [f"{SOURCE}{place}" for place in code_paths(name)]
        if before != after:
            replace_dependencies(step, lambda dep: dep.startswith(SOURCE), after)
            more, fewer = ([dep for dep in a if dep not in b] for a, b in ((after, before), (before, after)))
            changes[name] = [*(f"+ {dep}" for dep in more), *(f"- {dep}" for dep in fewer)] or ["order"]
    return changes
