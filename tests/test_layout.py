"""The shape of the code: who may import whom, and that DVC notices every change of a stage's code."""

from __future__ import annotations

import ast
import re
import statistics
from pathlib import Path

import pytest
import yaml

from partsynth.lineage.code import code_paths, imports

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/partsynth"
MODULES = sorted(PACKAGE.rglob("*.py"))
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# A room may import those that stand before it, and itself: what is computed, kept and read first, then the way of the
# data, then what works on finished projects. `seams` names members of later rooms, but imports none.
# fmt: off
ROOMS = (
    "errors", "seams", "core", "store", "records", "config", "lineage", "tracking", "rendering", "sources",
    "augmentation", "quality", "selection", "training", "evaluation", "reporting", "stages", "project", "review",
    "study", "audit", "serving", "benchmark", "cli", "__main__",
)
# fmt: on
LONGEST = 450  # lines of a module
# fmt: off
HEAVY = {
    "torch", "torchvision", "transformers", "diffusers", "mlflow", "optuna", "great_expectations", "mitsuba",
    "dvc", "sklearn", "pandas", "matplotlib", "scipy", "accelerate", "trimesh", "manifold3d",
}
# fmt: on


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")


def own_imports(path: Path) -> set[str]:
    return {name_of(p) for p in imports(path)} - {"__init__"}


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
    found = [p.relative_to(package).as_posix() for p in imports(module, package)]
    assert found == ["a.py", "b.py", "sub/__init__.py", "sub/c.py", "sub/d.py"]
    (package / "sub/d.py").write_text("from . import c\nfrom ..a import thing\n")
    found = [p.relative_to(package).as_posix() for p in imports(package / "sub/d.py", package)]
    assert found == ["a.py", "sub/__init__.py", "sub/c.py"]


def room(name: str) -> str:
    return name.split("/")[0]


def test_every_room_has_its_place() -> None:
    assert {room(name_of(path)) for path in MODULES} - {"__init__"} == set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_arrow_points_upwards(path: Path) -> None:
    name, found = name_of(path), own_imports(path)
    if name == "__init__":
        return
    if room(name) == "core":
        assert {f for f in found if room(f) != "core"} == set()
    assert {f for f in found if ROOMS.index(room(f)) > ROOMS.index(room(name))} == set()


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p).startswith("stages/")], ids=name_of)
def test_stages_meet_in_files_alone(path: Path) -> None:
    assert not [f for f in own_imports(path) if f.startswith("stages/")]


def test_modules_import_each_other_in_no_circle() -> None:
    import graphlib

    graph = {name_of(p): own_imports(p) - {name_of(p)} for p in MODULES}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_no_module_is_long() -> None:
    lengths = {name_of(p): len(p.read_text().splitlines()) for p in MODULES}
    assert {name: n for name, n in lengths.items() if n > LONGEST} == {}
    assert statistics.median(n for n in lengths.values() if n) <= 150


@pytest.mark.parametrize(
    ("library", "owners"),
    {
        "diffusers": ("core/diffusion/", "core/pretraining/"),
        "mlflow": ("tracking/", "serving/mlflow_model"),  # the latter runs in an export alone
        "optuna": ("study/",),
        "great_expectations": ("quality/expectations",),
        "mitsuba": ("rendering/",),
    }.items(),
)
def test_one_room_imports_each(library: str, owners: tuple[str, ...]) -> None:
    importers = {name_of(p) for p in MODULES if library in foreign_imports(ast.parse(p.read_text()))}
    assert importers and all(name.startswith(owners) for name in importers)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_libraries_are_imported_late(path: Path) -> None:
    at_start = {
        name
        for node in ast.parse(path.read_text()).body
        for name in foreign_imports(node)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    # rooms that are imported late themselves
    allowed = {
        "core": {"torch", "scipy"},
        "rendering": {"trimesh", "scipy", "manifold3d"},
        "training": {"torch"},
        "stages": {"torch"},
        "study": {"optuna", "torch"},
        "serving": {"torch"},
    }.get(room(name_of(path)), set())
    if name_of(path) in ("tracking/dataset_source", "serving/mlflow_model"):  # MLflow itself imports them
        allowed = {"mlflow", "pandas"}
    assert not (at_start & HEAVY) - allowed


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=name_of)
def test_the_command_line_imports_nothing_of_weight_at_start(path: Path) -> None:
    body = ast.parse(path.read_text()).body
    found = {n for node in body if isinstance(node, ast.Import | ast.ImportFrom) for n in foreign_imports(node)}
    assert found <= {"__future__", "errno", "sys", "pathlib", "typing", "typer", "partsynth"}
    assert {room(f) for f in own_imports(path) if "cli" not in f} <= set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_unpickles(path: Path) -> None:
    text = path.read_text()
    assert not foreign_imports(ast.parse(text)) & {"pickle", "joblib", "dill", "cloudpickle"}
    assert not re.search(r"\btorch\.load\(", text)


# --- dvc.yaml ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_the_code_it_runs(stage: str) -> None:
    """Not on CHECKED: formats and messages that are checked where they are read would rerun all for a word."""
    declared = [dep for dep in step_of(stage).get("deps", []) if dep.startswith("src/")]
    if STAGES[stage].get("frozen"):
        assert not declared
        return
    needed = [f"src/partsynth/{path}" for path in code_paths(stage)]
    assert declared == needed, "`partsynth upgrade` writes them into dvc.yaml"


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
    from partsynth.config.params import Params

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
