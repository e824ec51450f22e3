"""`partsynth init`: a git + DVC project from a preset."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from partsynth import __version__
from partsynth.config.load import load_all, load_text
from partsynth.errors import UserError, did_you_mean
from partsynth.lineage.git import git
from partsynth.project.card import RENDERED, completed, write_card
from partsynth.project.code import STAMP, stamp
from partsynth.project.dvcfile import graph_for, stage_names
from partsynth.project.findings import Findings
from partsynth.project.given import Photographs, with_photographs
from partsynth.project.photographs import look
from partsynth.project.reviews import write_no_review
from partsynth.project.shipped import BASE, checkout, needs_base_model, presets, shipped
from partsynth.records.card import DataCard
from partsynth.store.drafts import draft_folder
from partsynth.store.files import write_json, write_text_atomic

SAID = 300  # characters of what git says


def init(
    folder: Path,
    preset: str,
    data: Path | None = None,
    base: Path | None = None,
    cache: Path | None = None,
    *,
    shifted: Path | None = None,
    far: Path | None = None,
    held_out: Sequence[str] = (),
    group_pattern: str | None = None,
    card: Callable[[], DataCard] = DataCard,
) -> str:
    """Make a git + DVC project in ``folder`` from a preset; returns what to do next.

    Parameters
    ----------
    folder : new, or empty
    preset : a name of ``presets()``
    data : photographs; they stay where they are and are named by their absolute path, because experiments run in
        temporary copies of the project
    base : the embedded base model, where the package was installed without its repository; it is copied in, under DVC,
        so that the project can be shared
    cache : a DVC cache that it shares with others, instead of its own
    shifted : photographs of the same classes from elsewhere, for the shifted part of the test
    far : photographs of other things, far-OOD
    held_out : classes kept out of training, near-OOD
    group_pattern : regular expression whose groups name the part or spot in <class>/<file>
    card : asks for the data card, once nothing stands in the way of the project; of rendered parts the rest is known

    Raises
    ------
    UserError
        with all faults: an unknown preset, a folder in use, data missing or not wanted, no base model, no git. Nothing
        has been written then.
    """
    known = presets()
    if preset not in known:
        raise UserError(f"no preset {preset!r}{did_you_mean(preset, known)}; there are {', '.join(known)}")
    parameters, checkout_root = load_all(known[preset]), checkout()
    model = base or (checkout_root / BASE if checkout_root else None)
    needs_base = needs_base_model(parameters)
    faults = [f"{folder} is not empty: name a new folder"] if folder.exists() and not _is_empty(folder) else []
    renders = parameters.ingest.source == "rendered"
    faults += _data_faults(preset, renders, data)
    for option, place in (("--shifted", shifted), ("--far", far)):
        faults += _place_faults(option, place) if place is not None else []
    if renders and (shifted or far or held_out or group_pattern):
        faults.append("--shifted, --far, --holdout and --group-pattern are for photographs: take another preset")
    faults += _model_faults(model) if needs_base else []
    faults += ["git is not installed"] if shutil.which("git") is None else []
    if faults:
        raise UserError("\n  ".join(["no project was made:", *faults] if len(faults) > 1 else faults))

    text, seen = known[preset].read_text(), Findings()
    if data is not None:
        photographs = Photographs(data=data, shifted=shifted, far=far, held_out=held_out, group_pattern=group_pattern)
        text = with_photographs(text, photographs)
        parameters = load_text(text, known[preset])
        look(folder, parameters, seen)
    graph = graph_for(parameters)
    stated = completed(card(), RENDERED) if renders else card()
    # made beside its place and moved there whole
    with draft_folder(folder.absolute()) as scratch:
        new = scratch / "project"
        new.mkdir()
        write_text_atomic(new / "params.yaml", text)
        write_text_atomic(new / "dvc.yaml", graph)
        write_json(new / STAMP, stamp(stage_names(graph)))
        write_text_atomic(new / "README.md", README.format(preset=preset, version=__version__))
        write_text_atomic(new / "reports/studies/README.md", STUDIES)  # the report depends on the folder
        write_no_review(new)
        write_card(new, stated)
        _begin_versions(new, cache)
        if needs_base and model is not None:
            shutil.copytree(model, new / BASE)
            # links of the user's cache.type would name this folder, which is moved away
            _dvc(new, "config", "--local", "cache.type", "copy")
            _dvc(new, "add", BASE)
            (new / ".dvc/config.local").unlink()
        refusal = _commit(new, f"A partsynth project from the preset {preset}")
        os.replace(new, folder)
    lines = [f"{folder} is ready (preset {preset}).", *seen.in_order]
    lines += [f"Mend first, dvc repro would stop: {fault}" for fault in seen.faults]
    if data is not None and not parameters.ood.holdout_classes and far is None:
        lines.append(
            "No class is held out and no folder of other things is named, so there will be no OOD figures (--holdout, "
            "--far, or section ood of params.yaml)."
        )
    if refusal is not None:
        lines.append(f"Nothing was committed, git says: {refusal}")
        lines.append(f"Mend that, then: cd {folder}; git commit -m 'A partsynth project'")
    if (top := _around(folder)) is not None:
        lines.append(
            f"It is a git repository of its own within that of {top}: name it in .gitignore there, or keep both as one "
            f"(rm -rf {folder / '.git'}; then git add {folder}; DVC goes on as it is)."
        )
    if shutil.which("partsynth") is None:
        lines.append(f"Next: source {Path(sys.executable).parent / 'activate'}")
    lines.append(f"Next: cd {folder}; partsynth check; dvc repro; partsynth summary")
    return "\n".join(lines)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _data_faults(preset: str, renders: bool, data: Path | None) -> list[str]:
    if data is None:
        return [] if renders else [f"the preset {preset} needs --data, the folder of your photographs"]
    if renders:
        return [f"the preset {preset} renders its own images: leave --data out, or take another preset"]
    return _place_faults("--data", data)


def _place_faults(option: str, place: Path) -> list[str]:
    if not place.is_dir():
        return [f"{option} {place}: no such folder"]
    if _is_empty(place):
        return [f"{option} {place}: the folder is empty"]
    if set(str(place.resolve())) & set("\"'\\$`\n"):
        return [f"{option} {place.resolve()}: a path with quotes, $, ` or \\ does not pass through dvc.yaml"]
    return []


def _model_faults(model: Path | None) -> list[str]:
    if model is None:
        return [
            "the embedded base model is no part of an installed package: name its folder with --base "
            "(models/base of the repository), or take a preset with another Stable Diffusion (sd15-gpu)"
        ]
    return [] if (model / "model_index.json").is_file() else [f"{model} holds no model (no model_index.json)"]


def _begin_versions(folder: Path, cache: Path | None) -> None:
    _run(folder, "git", "init", "--quiet")
    _dvc(folder, "init")
    _dvc(folder, "config", "core.analytics", "false")
    if cache is not None:
        _dvc(folder, "config", "cache.dir", os.fspath(cache.resolve()))
    for name in (".gitignore", ".dvcignore"):
        shutil.copyfile(shipped(name), folder / name)


def _commit(folder: Path, message: str) -> str | None:
    """What git says where it does not commit: it knows no name of the user, a hook of his refuses, a key is missing."""
    _run(folder, "git", "add", "--all")
    done = subprocess.run(["git", "commit", "--quiet", "-m", message], cwd=folder, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    said = " ".join((done.stderr or done.stdout).split())
    return said if len(said) <= SAID else f"{said[:SAID]} ..."


def _around(folder: Path) -> str | None:
    """The git repository that a new project lies in, unless that ignores it."""
    parent = folder.absolute().parent
    top = git(parent, "rev-parse", "--show-toplevel")
    ignored = git(parent, "check-ignore", "--quiet", folder.name) is not None
    return None if top is None or ignored else top.decode().strip()


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(command)} failed in {folder}: {(done.stderr or done.stdout).strip()}")


def _dvc(folder: Path, *arguments: str) -> None:
    _run(folder, sys.executable, "-m", "dvc", *arguments)


STUDIES = """\
`partsynth study show` writes one JSON file per study here; `dvc repro report` puts them into `reports/index.html`.
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

- **Keep a version:** `git add -A && git commit`. DVC keeps the images and models of each commit in its cache;
  `git checkout COMMIT && dvc checkout` brings them back.
- **Share:** `dvc remote add -d store ssh://server/path` (or a folder; `s3://...` after
  `pip install "partsynth[s3]"`), `dvc push`; others `git clone` and `dvc pull`. Without your photographs they have all
  that was made of them: `dvc repro --allow-missing` runs the other stages.
- **Your photographs** stay where they are (`ingest.path`); DVC hashes them and notices changes. To version them too,
  copy them to `data/raw`, run `dvc add data/raw` and set `ingest.path: data/raw`.
- **`data/card.yaml`** says where the photographs come from, under which licence, what for, and what they lack: the
  report and `partsynth audit export` show it. `partsynth check` reminds of what is not stated.
- **After an upgrade of partsynth** a stage whose code changed refuses to run until `partsynth upgrade` records it.
"""
