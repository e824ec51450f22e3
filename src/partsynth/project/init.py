"""`partsynth init`: a git + DVC project from a preset."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from partsynth import __version__
from partsynth.config.load import load_all
from partsynth.errors import UserError
from partsynth.project.code import STAMP, stamp
from partsynth.project.dvcfile import graph_for, stage_names, with_data
from partsynth.project.shipped import BASE, checkout, needs_base_model, presets, shipped
from partsynth.store.files import write_json, write_text_atomic


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
    needs_base = needs_base_model(parameters)
    model = base or (checkout() / BASE if checkout() else None)
    if needs_base and (model is None or not (model / "model_index.json").is_file()):
        faults.append(
            f"{model} holds no model (no model_index.json)"
            if model
            else "the embedded base model is no part of an installed package: name its folder with --base "
            "(models/base of the repository), or take a preset with another Stable Diffusion (sd15-gpu)"
        )
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


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(command)} failed in {folder}: {(done.stderr or done.stdout).strip()}")


def _dvc(folder: Path, *arguments: str) -> None:
    _run(folder, sys.executable, "-m", "dvc", *arguments)


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
