"""Projects: one's own made from a preset, checked, and kept true to the package that made its products.

In the repository a stage's DVC dependencies name its modules. A project of one's own has no ``src/``: there
``partsynth.json`` holds one hash of code a stage, as a DVC parameter, and a stage refuses to run with other code.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from partsynth import __version__
from partsynth.params import Params, load_all, read_yaml
from partsynth.records import UserError, fingerprint, sha256_file, write_json, write_text_atomic

PACKAGE = Path(__file__).parent
STAMP = "partsynth.json"
BASE = "models/base"
# Formats and messages that are checked where they are read, and what the products do not depend on.
CHECKED = frozenset({"params", "records", "tracking", "lineage", "objects"})


# --- the package's code -------------------------------------------------------------------------------------------


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


@functools.cache
def code_of(stage: str) -> tuple[Path, ...]:
    """The modules whose text decides what a stage makes: its step and all it imports, less those in ``CHECKED``."""
    todo, seen = [PACKAGE / "steps" / f"{stage}.py"], set()
    while todo:
        module = todo.pop()
        if module in seen or (module.parent == PACKAGE and module.stem in CHECKED):
            continue
        seen.add(module)
        todo += imports(module)
    return tuple(sorted(path for path in seen if path.read_text().strip()))


def code_hash(stage: str) -> str:
    return fingerprint([[path.relative_to(PACKAGE).as_posix(), sha256_file(path)] for path in code_of(stage)])


def stamp(stages: list[str]) -> dict[str, object]:
    return {"partsynth": __version__, "code": {stage: code_hash(stage) for stage in stages}}


def _changed(root: Path) -> list[str]:
    """Stages of a project whose code differs from the recorded one; none in the repository itself."""
    path = root / STAMP
    if not path.is_file():
        return []
    try:
        recorded = json.loads(path.read_text())["code"]
        return [stage for stage in recorded if code_hash(stage) != recorded[stage]]
    except (ValueError, KeyError, TypeError, OSError):
        raise UserError(f"{path} is damaged: `git checkout {STAMP}`, or `partsynth upgrade` writes it anew") from None


def require_current(root: Path, stage: str) -> None:
    """Raise UserError where the project recorded other code for ``stage`` than is installed."""
    if stage in _changed(root):
        raise UserError(
            f"the installed partsynth ({__version__}) has other code for the stage {stage} than this project recorded. "
            "`partsynth upgrade` records it; `dvc repro` then runs the stages whose code changed"
        )


def upgrade(root: Path) -> str:
    """Record the installed code; returns what will run again."""
    path = root / STAMP
    if not path.is_file():
        raise UserError(f"no {STAMP} here: only projects made by `partsynth init` have one (the repository needs none)")
    stages = [name for name in read_yaml(root / "dvc.yaml").get("stages", {}) if _step(name).is_file()]
    try:
        changed = _changed(root)
    except UserError:
        changed = stages
    write_json(path, stamp(stages))
    if not changed:
        return f"{STAMP} is up to date with partsynth {__version__}"
    return f"recorded partsynth {__version__}; `dvc repro` will run again: {', '.join(changed)}, and what uses them"


def _step(stage: str) -> Path:
    return PACKAGE / "steps" / f"{stage}.py"


# --- files that come with the package -----------------------------------------------------------------------------


def checkout() -> Path | None:
    """The repository this package runs from; None where it was installed as a wheel."""
    root = PACKAGE.parents[1]
    return root if (root / "pyproject.toml").is_file() and (root / "src" / PACKAGE.name) == PACKAGE else None


def shipped(name: str) -> Path:
    """A file of the repository that the wheel carries too (presets/, dvc.yaml, .gitignore, .dvcignore)."""
    return (checkout() or PACKAGE / "shipped") / name


def presets() -> dict[str, Path]:
    return {path.stem: path for path in sorted(shipped("presets").glob("*.yaml"), key=lambda path: path.stem)}


# --- init ---------------------------------------------------------------------------------------------------------


def init(
    folder: Path, preset: str, data: Path | None = None, base: Path | None = None, cache: Path | None = None
) -> str:
    """Make a git + DVC project in ``folder`` from a preset; returns what to do next.

    ``cache``: a DVC cache that it shares with others, instead of its own.
    ``data`` stays where it is and is named by its absolute path (experiments run in temporary copies of the project).
    The embedded base model is copied in, under DVC, so that the project can be shared; ``base`` names it where the
    package was installed without its repository.

    Raises
    ------
    UserError
        with all faults: an unknown preset, a folder in use, data missing or not wanted, no base model, no git. Nothing
        has been written then.
    """
    known, faults = presets(), []
    if preset not in known:
        raise UserError(f"no preset {preset!r}; there are {', '.join(known)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        faults.append(f"{folder} is not empty: name a new folder")
    parameters = load_all(known[preset])
    renders = parameters.ingest.source == "rendered"
    if renders and data is not None:
        faults.append(f"the preset {preset} renders its own pictures: leave --data out, or take another preset")
    elif not renders and data is None:
        faults.append(f"the preset {preset} needs --data, the folder of your photographs")
    elif data is not None and not data.is_dir():
        faults.append(f"--data {data}: no such folder")
    elif data is not None and not any(data.iterdir()):
        faults.append(f"--data {data}: the folder is empty")
    elif data is not None and re.search(r"[\"'\\$`\n]", str(data.resolve())):
        faults.append(f"--data {data.resolve()}: a path with quotes, $, ` or \\ does not pass through dvc.yaml")
    needs_base = _needs_base(parameters)
    model = base or (checkout() / BASE if checkout() else None)
    if needs_base and (model is None or not (model / "model_index.json").is_file()):
        faults.append(
            f"{model} holds no model (no model_index.json)" if model else
            "the embedded base model is no part of an installed package: name its folder with --base "
            "(models/base of the repository), or take a preset with another Stable Diffusion (sd15-gpu)"
        )  # fmt: skip
    if shutil.which("git") is None:
        faults.append("git is not installed")
    if faults:
        raise UserError("\n  ".join(["no project was made:", *faults] if len(faults) > 1 else faults))

    text = known[preset].read_text()
    if data is not None:
        text = with_data(text, data.resolve())
    graph = graph_for(parameters)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # made beside its place and moved there whole
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        new = Path(scratch) / "project"
        new.mkdir()
        write_text_atomic(new / "params.yaml", text)
        write_text_atomic(new / "dvc.yaml", graph)
        write_json(new / STAMP, stamp(stage_names(graph)))
        write_text_atomic(new / "README.md", README.format(preset=preset, version=__version__))
        _run(new, "git", "init", "--quiet")
        _dvc(new, "init")
        _dvc(new, "config", "core.analytics", "false")
        if cache is not None:
            _dvc(new, "config", "cache.dir", os.fspath(cache.resolve()))
        for name in (".gitignore", ".dvcignore"):
            shutil.copyfile(shipped(name), new / name)
        write_text_atomic(new / "reports/studies/README.md", STUDIES)  # the report depends on the folder
        if needs_base:
            shutil.copytree(model, new / BASE)
            _dvc(new, "add", BASE)
        _run(new, "git", "add", "--all")
        message = f"A partsynth project from the preset {preset}"
        committed = (
            subprocess.run(["git", "commit", "--quiet", "-m", message], cwd=new, capture_output=True).returncode == 0
        )
        os.replace(new, folder)
    lines = [f"{folder} is ready (preset {preset})."]
    if not committed:
        lines.append("git knows no name for you, so nothing was committed: git config user.name, then git commit.")
    if shutil.which("partsynth") is None:
        lines.append(f"Next: source {Path(sys.executable).parent / 'activate'}")
    lines.append(f"Next: cd {folder}; partsynth check; dvc repro; partsynth summary")
    return "\n".join(lines)


def with_data(text: str, data: Path) -> str:
    """A preset's text with ``ingest.path`` naming ``data``."""
    changed, count = re.subn(
        r"(?ms)^(ingest:\n.*?^  path:)[^\n#]*",
        lambda m: f"{m.group(1)} {json.dumps(str(data), ensure_ascii=False)}  ",
        text,
        count=1,
    )
    if not count:
        raise ValueError("the preset's section ingest has no path")
    return "\n".join(line.rstrip() for line in changed.split("\n"))


def _needs_base(parameters: Params) -> bool:
    return any(m == BASE or m.startswith(f"{BASE}/") for m in (parameters.diffusion.model, parameters.reference.model))


def graph_for(parameters: Params, setups: list[str] | None = None) -> str:
    """dvc.yaml of a project with these parameters; ``setups``: those of ``benchmark.setups`` to take (None = all)."""
    renders = parameters.ingest.source == "rendered"
    text = project_dvc_yaml(shipped("dvc.yaml").read_text(), renders, _needs_base(parameters))
    chosen = {n: s for n, s in parameters.benchmark.setups.items() if setups is None or n in setups}
    return with_setups(text, {name: (setup.onto, setup.set) for name, setup in chosen.items()}) if chosen else text


def with_setups(graph: str, chain: dict[str, tuple[str | None, str]]) -> str:
    """dvc.yaml's text with these entries of ``select``: setup -> (setup it adds to or None, set or ``real``)."""
    lines = []
    for name, (onto, added) in chain.items():
        real = added == "real"
        lines += [
            f"      {name}:",
            f"        onto: {f'data/selected/{onto}.csv' if onto else 'data/real/train'}",
            f"        manifest: {'data/real/manifest.csv' if real else f'data/augmented/{added}/manifest.csv'}",
            f"        verdicts: {'data/real/val' if real else f'data/quality/{added}.csv'}",
        ]
    changed, count = re.subn(
        r"(?ms)^(  select:\n    foreach:\n).*?^(?=    do:$)", lambda m: m.group(1) + "\n".join(lines) + "\n", graph
    )
    if count != 1:
        raise ValueError("dvc.yaml has no stage select with a foreach")
    return changed


def project_dvc_yaml(text: str, renders: bool, needs_base: bool) -> str:
    """The repository's dvc.yaml for a project: no ``base``, ``render`` only where wanted, code by STAMP."""
    _, _, body = text.partition("\nstages:\n")
    left_out = {"base"} | (set() if renders else {"render"})
    lines: list[str] = []
    for block in re.split(r"(?m)^(?=(?:  #[^\n]*\n)*  \w+:\n)", body):
        name = re.search(r"(?m)^  (\w+):$", block)
        if name is None or name.group(1) in left_out:
            continue
        for line in block.rstrip("\n").split("\n"):
            if line.strip().startswith("- src/") or (not needs_base and line.strip() == f"- {BASE}"):
                continue
            lines.append(line)
            if line.strip() == "params:":
                indent = " " * (line.index("params:") + 2)
                lines += [f"{indent}- {STAMP}:", f"{indent}    - code.{name.group(1)}"]
        lines.append("")
    made = re.sub(r"(?m)^( *)deps:\n(?!\1  )", "", "\n".join(lines))  # `deps:` of which only code was left out
    return PROJECT_HEAD + "stages:\n" + made


def stage_names(graph: str) -> list[str]:
    return list(yaml.safe_load(graph)["stages"])


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(command)} failed in {folder}: {(done.stderr or done.stdout).strip()}")


def _dvc(folder: Path, *arguments: str) -> None:
    _run(folder, sys.executable, "-m", "dvc", *arguments)


PROJECT_HEAD = """\
# ingest -> tokens -> calibrate@SET -> generate@SET -> quality@SET -> select@SETUP -> train@SETUP-SEED -> evaluate -> report
#
# partsynth.json holds a hash of each stage's code in the installed package (`partsynth upgrade` records a new one).
# One more augmentation set: an entry of `sets` in params.yaml.
# One more setup: an entry of `select` and of `matrix.setups` in params.yaml, and one of `select` below.
# One more seed: `matrix.seeds` in params.yaml.
"""

STUDIES = """\
`partsynth study show` writes one JSON file a study here; `dvc repro report` puts them into `reports/index.html`.
They are small results, made on a shared study storage and not by a stage: commit those worth keeping.
"""

README = """\
# A partsynth project

Made by `partsynth init --preset {preset}` (partsynth {version}).

    partsynth check      # params.yaml, dvc.yaml and the folders they name: all faults at once
    dvc repro            # everything that is not up to date, stage by stage
    partsynth summary    # how the setups compare
    mlflow ui --backend-store-uri sqlite:///mlflow.db    # the runs, at http://127.0.0.1:5000

`params.yaml` decides everything; `partsynth params` explains each key. Look at `reports/index.html` for the result,
and at `reports/quality/<set>/` for what was flagged and why.

- **Keep a version:** `git add -A && git commit`. DVC keeps the pictures and models of each commit in its cache;
  `git checkout COMMIT && dvc checkout` brings them back.
- **Share:** `dvc remote add -d store ssh://server/path` (or `s3://...`, or a folder), `dvc push`; others `git clone`
  and `dvc pull`.
- **Your photographs** stay where they are (`ingest.path`); DVC hashes them and notices changes. To version them too,
  copy them to `data/raw`, run `dvc add data/raw` and set `ingest.path: data/raw`.
- **After an upgrade of partsynth** a stage whose code changed refuses to run until `partsynth upgrade` records it.
"""


# --- check --------------------------------------------------------------------------------------------------------


def check(root: Path, params: Path) -> list[str]:
    """What is in order, as lines to print; raises UserError with every fault of params.yaml, dvc.yaml and folders."""
    faults: list[str] = []
    lines: list[str] = []
    parameters: Params | None = None
    try:
        parameters = load_all(params)
        lines.append(f"{params}: in order")
    except UserError as error:
        faults.append(str(error))
    if parameters is not None:
        faults += _model_faults(root, parameters, lines)
        if parameters.study.setup not in parameters.select:
            faults.append(f"study.setup: no {parameters.study.setup!r}; select has {', '.join(parameters.select)}")
    try:
        changed = _changed(root)
        if changed:
            faults.append(
                f"other code installed than recorded for {', '.join(changed)}: `partsynth upgrade` records it"
            )
    except UserError as error:
        faults.append(str(error))
    faults += _graph_faults(root, lines)
    if faults:
        raise UserError("\n".join(faults))
    return lines


def _model_faults(root: Path, parameters: Params, lines: list[str]) -> list[str]:
    faults = []
    wanted = {"diffusion.model": (parameters.diffusion.model, "model_index.json")}
    wanted["reference.model"] = (parameters.reference.model, "config.json")
    for key, (model, file) in wanted.items():
        folder = root / model
        if (folder / file).is_file():
            lines.append(f"{key}: {model}")
        elif folder.exists():
            faults.append(f"{key}: {model} holds no {file}")
        elif re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model) and not (root / model).parent.is_dir() and model != BASE:
            lines.append(f"{key}: {model}, fetched from the model hub at the first run")
        else:
            faults.append(f"{key}: there is no folder {model} (and it is no hub id owner/name)")
    return faults


def _graph_faults(root: Path, lines: list[str]) -> list[str]:
    """DVC's own reading of dvc.yaml, and dependencies that nothing writes and that do not exist."""
    import logging

    from dvc.dependency.param import ParamsDependency
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    try:
        with Repo(os.fspath(root)) as repo:
            repo.check_graph(stages=repo.index.stages)
            stages = repo.index.stages
            written = [out.fs_path for stage in stages for out in stage.outs]
            missing: dict[str, list[str]] = {}
            unnamed: dict[str, list[str]] = {}
            for stage in stages:
                for dep in stage.deps:
                    if isinstance(dep, ParamsDependency) and os.path.exists(dep.fs_path):
                        for key in set(dep.params) - set(dep.read_params()):
                            unnamed.setdefault(f"{dep.def_path} has no {key}", []).append(stage.name)
                    elif dep.fs_path and not os.path.exists(dep.fs_path) and not _covered(dep.fs_path, written):
                        missing.setdefault(dep.def_path, []).append(getattr(stage, "name", None) or stage.addressing)
    except DvcException as error:
        return [f"dvc.yaml: {error}" + (f" ({error.__cause__})" if error.__cause__ else "")]
    faults = [
        f"{fault}; DVC wants it there, if only empty: {{}} ({_some(unnamed[fault])})" for fault in sorted(unnamed)
    ]
    faults += [f"dvc.yaml: there is no {p} and no stage writes it ({_some(missing[p])})" for p in sorted(missing)]
    if faults:
        return faults
    lines.append(f"dvc.yaml: {len(stages)} stages, in order")
    return []


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _covered(path: str, written: list[str]) -> bool:
    """A stage writes ``path``, or a folder above it, or something below it."""
    return any(path == out or path.startswith(out + os.sep) or out.startswith(path + os.sep) for out in written)
