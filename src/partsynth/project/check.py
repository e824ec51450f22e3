"""`partsynth check`: every fault of params.yaml, dvc.yaml and the folders they name, at once."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from partsynth.config.load import load_all
from partsynth.config.params import Params
from partsynth.errors import UserError, did_you_mean, listed
from partsynth.project.code import changed_stages
from partsynth.project.shipped import BASE
from partsynth.project.upgrade import outdated

SHOWN = 3  # stages named in one fault
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


@dataclass
class Findings:
    """What is in order and what is not, as sentences."""

    in_order: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def check(root: Path, params: Path) -> list[str]:
    """What is in order, as lines to print; changes nothing.

    Raises
    ------
    UserError
        with every fault of params.yaml, dvc.yaml and the folders they name.
    """
    found = Findings()
    try:
        parameters = load_all(params)
        found.in_order.append(f"{params}: in order")
        _check_models(root, parameters, found)
        _check_study(parameters, found)
    except UserError as error:
        found.faults.append(str(error))
    try:
        _check_code(root, found)
    except UserError as error:
        found.faults.append(str(error))
    _check_graph(root, found)
    if found.faults:
        raise UserError("\n".join(found.faults))
    return found.in_order


def _check_models(root: Path, parameters: Params, found: Findings) -> None:
    wanted = {
        "diffusion.model": (parameters.diffusion.model, "model_index.json"),
        "reference.model": (parameters.reference.model, "config.json"),
    }
    for key, (model, file) in wanted.items():
        folder = root / model
        if (folder / file).is_file():
            found.in_order.append(f"{key}: {model}")
        elif folder.exists():
            found.faults.append(f"{key}: {model} holds no {file}")
        elif HUB_ID.fullmatch(model) and not folder.parent.is_dir() and model != BASE:
            found.in_order.append(f"{key}: {model}, fetched from the model hub at the first run")
        else:
            found.faults.append(f"{key}: there is no folder {model} (and it is no hub id owner/name)")


def _check_study(parameters: Params, found: Findings) -> None:
    setup, setups = parameters.study.setup, parameters.select
    if setup not in setups:
        found.faults.append(f"study.setup: no {setup!r}{did_you_mean(setup, setups)}; select has {', '.join(setups)}")


def _check_code(root: Path, found: Findings) -> None:
    if changed := changed_stages(root):
        names = ", ".join(changed)
        found.faults.append(f"other code installed than recorded for {names}: `partsynth upgrade` records it")
    if stale := outdated(root):
        names = ", ".join(stale)
        found.faults.append(f"dvc.yaml names other code than runs for {names}: `partsynth upgrade` writes it")


def _check_graph(root: Path, found: Findings) -> None:
    """DVC's own reading of dvc.yaml, and dependencies that nothing writes and that do not exist."""
    import logging

    from dvc.dependency.param import ParamsDependency
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    missing, unnamed = defaultdict(list), defaultdict(list)
    try:
        with Repo(os.fspath(root)) as repo:
            stages = repo.index.stages
            repo.check_graph(stages=stages)
            written = [out.fs_path for stage in stages for out in stage.outs]
            for stage in stages:
                name = getattr(stage, "name", None) or stage.addressing
                for dep in stage.deps:
                    if isinstance(dep, ParamsDependency) and os.path.exists(dep.fs_path):
                        for key in set(dep.params) - set(dep.read_params()):
                            unnamed[f"{dep.def_path} has no {key}"].append(name)
                    elif dep.fs_path and not os.path.exists(dep.fs_path) and not _covered(dep.fs_path, written):
                        missing[dep.def_path].append(name)
    except DvcException as error:
        found.faults.append(f"dvc.yaml: {error}" + (f" ({error.__cause__})" if error.__cause__ else ""))
        return
    for fault, names in sorted(unnamed.items()):
        found.faults.append(f"{fault}; DVC wants it there, if only empty: {{}} ({listed(names, SHOWN, ', ')})")
    for path, names in sorted(missing.items()):
        found.faults.append(f"dvc.yaml: there is no {path} and no stage writes it ({listed(names, SHOWN, ', ')})")
    if not missing and not unnamed:
        found.in_order.append(f"dvc.yaml: {len(stages)} stages, in order")


def _covered(path: str, written: list[str]) -> bool:
    """A stage writes ``path``, or a folder above it, or something below it."""
    return any(path == out or path.startswith(out + os.sep) or out.startswith(path + os.sep) for out in written)
