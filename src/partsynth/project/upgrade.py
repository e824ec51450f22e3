"""`partsynth upgrade`: record the code that is there now, so that DVC reruns what it makes otherwise, and have it watch
all photographs that params.yaml names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from partsynth import __version__
from partsynth.config.load import PARAMS, read_yaml
from partsynth.errors import UserError
from partsynth.lineage.code import PACKAGE, code_paths, stage_module
from partsynth.project.code import STAMP, changed_stages, stamp
from partsynth.project.dvcfile import SOURCE, adapting, replace_dependencies, step_of, watching
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
    graph, lacking = _adapted(root)
    if lacking:
        write_text_atomic(root / GRAPH, written(graph))
    stages = [name for name in read_yaml(root / GRAPH).get("stages", {}) if stage_module(name).is_file()]
    try:
        changed = changed_stages(root)
    except UserError:
        changed = stages
    write_json(root / STAMP, stamp(stages))
    told = [f"{STAMP} is up to date with partsynth {__version__}"]
    if changed:
        told = [
            f"recorded partsynth {__version__}; `dvc repro` will run again: {', '.join(changed)}, and what uses them"
        ]
    added = [f"{GRAPH}: stage adapt, as diffusion.adapt in {PARAMS} asks for it"] if lacking else []
    return "\n".join([*told, *added, *_watch(root)])


def lacks_adapt(root: Path) -> bool:
    """Whether params.yaml asks for stage adapt and dvc.yaml, from before it, has none."""
    return _adapted(root)[1]


def _adapted(root: Path) -> tuple[Any, bool]:
    """dvc.yaml with stage adapt where params.yaml asks for it, and whether that had to be added."""
    read_yaml(root / GRAPH)
    graph = parsed((root / GRAPH).read_text())
    return graph, (root / PARAMS).is_file() and adapting(graph, read_yaml(root / PARAMS))


def _watch(root: Path) -> list[str]:
    """Have DVC watch the further photographs that params.yaml names, and no others."""
    graph, changed = _watched(root)
    if changed:
        write_text_atomic(root / GRAPH, written(graph))
    return [f"{GRAPH}: ingest depends on {key} as {PARAMS} has it" for key in changed]


def unwatched(root: Path) -> list[str]:
    """Keys of params.yaml that name further photographs, or none any more, where dvc.yaml says otherwise."""
    return _watched(root)[1]


def _watched(root: Path) -> tuple[Any, list[str]]:
    """dvc.yaml as params.yaml wants it, and the keys that it was put right for."""
    read_yaml(root / GRAPH)
    graph = parsed((root / GRAPH).read_text())
    return graph, watching(graph, read_yaml(root / PARAMS)) if (root / PARAMS).is_file() else []


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
