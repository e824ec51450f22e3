"""Which code a module runs: its own imports, followed through the package."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

from partsynth import seams
from partsynth.store.hashing import fingerprint, sha256_file

PACKAGE = Path(__file__).parents[1]
# Formats and messages that are checked where they are read, and what the products do not depend on.
CHECKED = frozenset({"__init__", "config", "errors", "lineage", "records", "seams", "store", "tracking"})


def imports(module: Path, package: Path = PACKAGE) -> list[Path]:
    """The modules of ``package`` that ``module`` imports anywhere in its text, also inside functions; sorted."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text(), str(module))):
        if isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:  # relative: counted from the module's own package
                above = module.parents[node.level - 1].relative_to(package).parts
                source = ".".join([package.name, *above, *([source] if source else [])])
            names = [f"{source}.{alias.name}" for alias in node.names] + [source]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            head, *parts = name.split(".")
            path = package.joinpath(*parts)
            if head == package.name and parts:
                found |= {p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()}
    return sorted(found)


def members(module: Path) -> list[Path]:
    """The members of the seams that ``module`` imports: no text imports them, but they run."""
    found = []
    for node in ast.walk(ast.parse(module.read_text(), str(module))):
        if isinstance(node, ast.ImportFrom) and node.module == seams.__name__:
            registries = [getattr(seams, alias.name) for alias in node.names]
            names = [name for one in registries if isinstance(one, seams.Registry) for name in one.modules]
            found += [PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py") for name in names]
    return found


def room_of(module: Path) -> str:
    """The folder of the package that a module lies in; of a module of the package itself, its own name."""
    return module.relative_to(PACKAGE).with_suffix("").parts[0]


def stage_module(stage: str) -> Path:
    return PACKAGE / "stages" / f"{stage}.py"


@functools.cache
def code_of(stage: str) -> tuple[Path, ...]:
    """The modules whose text decides what a stage makes: its stage, all that it imports and all members of the seams
    that it uses, minus the rooms in ``CHECKED``. Members from outside are not among them."""
    todo, seen = [stage_module(stage)], set()
    while todo:
        module = todo.pop()
        if module in seen or room_of(module) in CHECKED:
            continue
        seen.add(module)
        todo += [*imports(module), *members(module)]
    return tuple(sorted(path for path in seen if path.read_text().strip()))


def code_paths(stage: str) -> list[str]:
    """What dvc.yaml names as a stage's code, relative to the package: folders that it needs whole, else modules."""
    needed = set(code_of(stage))

    def named(folder: Path) -> list[Path]:
        modules = {path for path in folder.rglob("*.py") if path.read_text().strip()}
        if modules <= needed and folder != PACKAGE:
            return [folder]
        inner = [p for p in folder.iterdir() if p.is_dir() and needed & {m for m in modules if p in m.parents}]
        here = [p for p in needed if p.parent == folder]
        return [*here, *(path for sub in inner for path in named(sub))]

    return sorted(path.relative_to(PACKAGE).as_posix() for path in named(PACKAGE))


def code_hash(stage: str) -> str:
    return fingerprint([[path.relative_to(PACKAGE).as_posix(), sha256_file(path)] for path in code_of(stage)])
