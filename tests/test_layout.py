"""The shape of the code: who may import whom, and that DVC notices every change of a stage's code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from partsynth import project

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/partsynth"
MODULES = sorted(PACKAGE.rglob("*.py"))
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
INFRASTRUCTURE = {"lineage", "objects", "sheets"}  # what tracking is made of
HEAVY = set(
    "torch torchvision transformers diffusers mlflow optuna great_expectations mitsuba dvc sklearn pandas matplotlib "
    "scipy accelerate trimesh manifold3d".split()
)


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")


def own_imports(path: Path) -> set[str]:
    return {name_of(p) for p in project.imports(path)} - {"__init__"}


def foreign_imports(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
    return found


def step_of(stage: str) -> dict:
    return STAGES[stage].get("do", STAGES[stage])


def test_imports_are_read_in_every_form(tmp_path: Path) -> None:
    package = tmp_path / "p"
    for name in ("__init__", "a", "b", "sub/__init__", "sub/c", "sub/d"):
        (package / f"{name}.py").parent.mkdir(parents=True, exist_ok=True)
        (package / f"{name}.py").write_text("")
    module = package / "x.py"
    module.write_text(
        "import p.a\nfrom p import b\nimport os.path\nfrom q import a\n"
        "def f():\n    from p.sub.c import anything\n    from p.sub import d as other\n"
    )
    found = [p.relative_to(package).as_posix() for p in project.imports(module, package)]
    assert found == ["a.py", "b.py", "sub/__init__.py", "sub/c.py", "sub/d.py"]
    (package / "sub/d.py").write_text("from . import c\nfrom ..a import thing\n")
    found = [p.relative_to(package).as_posix() for p in project.imports(package / "sub/d.py", package)]
    assert found == ["a.py", "sub/__init__.py", "sub/c.py"]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_who_may_import_whom(path: Path) -> None:
    name, found = name_of(path), own_imports(path)
    head = name.split("/")[0]
    if head == "kernel":
        assert {f for f in found if not f.startswith("kernel")} == set()
    elif head == "records":
        assert found == set()
    elif head == "params":
        assert found == {"records"}
    elif head == "tracking" or head in INFRASTRUCTURE:
        assert found <= {"records"} | INFRASTRUCTURE
    elif head in ("sources", "rendering"):
        assert not [f for f in found if f.startswith(("steps", "tracking", "study", "audit", "cli", "project"))]
    elif head == "steps":
        assert not [f for f in found if f.startswith(("steps/", "study", "audit", "cli", "project"))]
    else:
        steps = {f.removeprefix("steps/") for f in found if f.startswith("steps/")}
        # they do again what a stage does
        allowed = {
            "study": {"train", "select", "evaluate"},
            "search": {"train", "select", "evaluate"},
            "audit": {"generate"},
            "benchmark": {"evaluate"},
        }
        assert head == "cli" or steps <= allowed.get(head, set())


@pytest.mark.parametrize(
    ("library", "owner"),
    {
        "diffusers": "kernel/diffusion",
        "mlflow": "tracking",
        "optuna": "study",
        "great_expectations": "steps/quality",
    }.items(),
)
def test_one_importer_each(library: str, owner: str) -> None:
    importers = {name_of(p) for p in MODULES if library in foreign_imports(ast.parse(p.read_text()))}
    assert importers <= {owner} | ({"kernel/pretraining"} if library == "diffusers" else set())


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_libraries_are_imported_late(path: Path) -> None:
    head = name_of(path).split("/")[0]
    at_start = {
        name
        for node in ast.parse(path.read_text()).body
        for name in foreign_imports(node)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    # steps, rendering and kernel are imported late themselves
    allowed = {"kernel": {"torch", "scipy"}, "rendering": {"trimesh", "scipy", "manifold3d"}, "steps": {"torch"}}.get(
        head, set()
    )
    assert not (at_start & HEAVY) - allowed


def test_the_command_line_imports_nothing_of_weight_at_start() -> None:
    body = ast.parse((PACKAGE / "cli.py").read_text()).body
    found = {n for node in body if isinstance(node, ast.Import | ast.ImportFrom) for n in foreign_imports(node)}
    assert found <= {"__future__", "errno", "sys", "pathlib", "typing", "typer"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_unpickles(path: Path) -> None:
    text = path.read_text()
    assert not foreign_imports(ast.parse(text)) & {"pickle", "joblib", "dill", "cloudpickle"}
    assert not re.search(r"\btorch\.load\(", text)


# --- dvc.yaml ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_the_code_it_runs(stage: str) -> None:
    """Not on CHECKED: formats and messages that are checked where they are read would rerun all for a word."""
    declared = {dep for dep in step_of(stage).get("deps", []) if dep.startswith("src/")}
    for dep in declared:
        assert (ROOT / dep).exists(), f"{dep} is a dependency of {stage} and does not exist"
    if STAGES[stage].get("frozen"):
        assert not declared
        return
    needed = {path.relative_to(ROOT).as_posix() for path in project.code_of(stage)}
    uncovered = {n for n in needed if not any(n == d or n.startswith(f"{d}/") for d in declared)}
    assert not uncovered, f"dvc.yaml, {stage}: add to deps {sorted(uncovered)}"
    idle = {d for d in declared if not any(n == d or n.startswith(f"{d}/") for n in needed)}
    assert not idle, f"dvc.yaml, {stage}: not imported {sorted(idle)}"


@pytest.mark.parametrize("stage", STAGES)
def test_every_path_of_a_command_is_a_dependency_or_an_output(stage: str) -> None:
    step = step_of(stage)
    declared = [*step.get("deps", []), *step.get("outs", []), *step.get("metrics", []), *step.get("plots", [])]
    names = [next(iter(d)) if isinstance(d, dict) else d for d in declared]
    for path in re.findall(
        r'--[a-z-]+ "?((?:data|models|reports)/\S+|\$\{ingest\.path\}|\$\{item\.onto\})', step["cmd"]
    ):
        path = path.rstrip('"')
        assert any(n == path or n.startswith(f"{path}/") or path.startswith(f"{n}/") for n in names), path


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_names_its_own_sections(stage: str) -> None:
    from partsynth.params import Params

    for section in step_of(stage)["params"]:
        assert section.split(".")[0] in Params.model_fields


def test_no_output_holds_committed_files() -> None:
    import subprocess

    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    tracked = done.stdout.split()
    for stage in STAGES:
        for out in step_of(stage)["outs"]:
            name = next(iter(out)) if isinstance(out, dict) else out
            if isinstance(out, dict) and out[name].get("cache") is False:
                continue  # models/base: frozen and committed
            folder = name.split("/${")[0]
            assert not [t for t in tracked if t == folder or t.startswith(f"{folder}/")]
