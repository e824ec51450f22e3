"""`partsynth check`: every fault of params.yaml, dvc.yaml and the folders they name, at once."""

from __future__ import annotations

import os
import re
from pathlib import Path

from partsynth.config.load import load_all
from partsynth.config.params import Params
from partsynth.errors import UserError
from partsynth.project.code import changed_stages
from partsynth.project.shipped import BASE


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
        changed = changed_stages(root)
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
