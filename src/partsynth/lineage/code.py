"""Which code a stage runs: its module's imports, followed through the package, and the members of seams it names.

The one answer to "which code made this?": dvc.yaml's dependencies, the hashes of partsynth.json and the fingerprints
of trainings come from here.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

from partsynth import seams
from partsynth.store.hashing import fingerprint, sha256_file

PACKAGE = Path(__file__).parents[1]
# Formats and messages that are checked where they are read, and what the products do not depend on.
CHECKED = frozenset({"__init__", "config", "errors", "lineage", "records", "seams", "store", "tracking"})
TEMPLATES = "templates"


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
        found |= {path for name in names for path in _files(name, package)}
    return sorted(found)


def _files(name: str, package: Path) -> list[Path]:
    """The files of a module or folder by its dotted name; none of the package's own and of other packages."""
    head, *parts = name.split(".")
    path = package.joinpath(*parts)
    if head != package.name or not parts:
        return []
    return [p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()]


def members(module: Path) -> list[Path]:
    """The modules of the members of all seams that ``module`` names (``SCORES``, ``seams.SCORES``); sorted."""
    if PACKAGE / "seams.py" not in imports(module):
        return []
    named = set()
    for node in ast.walk(ast.parse(module.read_text(), str(module))):
        if isinstance(node, ast.ImportFrom):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute):
            named.add(node.attr)
    registries = [found for name in named if isinstance(found := getattr(seams, name, None), seams.Registry)]
    names = {name for registry in registries for name in (registry.package, *registry.modules)}
    return sorted({path for name in names for path in _files(name, PACKAGE)})


def templates(module: Path) -> list[Path]:
    """The texts that the modules of a folder fill with values, in its folder ``templates``; sorted."""
    return sorted(path for path in (module.parent / TEMPLATES).glob("*") if path.is_file())


def room_of(module: Path) -> str:
    """The folder of the package that a module lies in; of a module of the package itself, its own name."""
    return module.relative_to(PACKAGE).with_suffix("").parts[0]


def stage_module(stage: str) -> Path:
    return PACKAGE / "stages" / f"{stage}.py"


@functools.cache
def code_of(stage: str) -> tuple[Path, ...]:
    """The files whose text decides what a stage makes: its stage, all that it imports, all members of the seams that it
    uses and the templates beside them, minus the rooms in ``CHECKED``. Members from outside are not among them."""
    todo, seen = [stage_module(stage)], set()
    while todo:
        module = todo.pop()
        if module in seen or room_of(module) in CHECKED:
            continue
        seen.add(module)
        todo += [*imports(module), *members(module)]
    seen |= {path for module in seen for path in templates(module)}
    return tuple(sorted(path for path in seen if path.read_text().strip()))


def code_paths(stage: str) -> list[str]:
    """What dvc.yaml names as a stage's code, relative to the package: folders that it needs whole, else modules."""
    needed = set(code_of(stage))

    def named(folder: Path) -> list[Path]:
        files = {*folder.rglob("*.py"), *(p for p in folder.rglob("*") if p.parent.name == TEMPLATES and p.is_file())}
        modules = {path for path in files if path.read_text().strip()}
        if modules <= needed and folder != PACKAGE:
            return [folder]
        inner = [p for p in folder.iterdir() if p.is_dir() and needed & {m for m in modules if p in m.parents}]
        here = [p for p in needed if p.parent == folder]
        return [*here, *(path for sub in inner for path in named(sub))]

    return sorted(path.relative_to(PACKAGE).as_posix() for path in named(PACKAGE))


def code_hash(stage: str) -> str:
    """A hash of the names and texts of a stage's modules."""
    return fingerprint([[path.relative_to(PACKAGE).as_posix(), sha256_file(path)] for path in code_of(stage)])
