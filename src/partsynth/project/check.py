"""`partsynth check`: every fault of params.yaml and dvc.yaml, and all that would stop a later stage, at once."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from partsynth.config.load import load_all, read_yaml
from partsynth.config.params import Params
from partsynth.errors import UserError, did_you_mean, listed
from partsynth.lineage.dvc_files import dvc_files
from partsynth.lineage.graph import read_lock
from partsynth.project.card import check_card
from partsynth.project.code import changed_stages
from partsynth.project.findings import Findings
from partsynth.project.needs import check_devices, check_models, check_store, check_versions
from partsynth.project.photographs import look
from partsynth.project.reviews import check_reviews
from partsynth.project.upgrade import lacks_adapt, outdated, unwatched

SHOWN = 3  # stages named in one fault


def check(root: Path, params: Path) -> list[str]:
    """What is in order, as lines to print; changes nothing.

    Raises
    ------
    UserError
        with every fault of params.yaml, dvc.yaml, the folders they name, models, devices, MLflow's store and remotes.
    """
    found = Findings()
    try:
        parameters = load_all(params)
        found.in_order.append(f"{params}: in order")
        check_models(root, parameters, found)
        check_devices(parameters, found)
        _check_study(parameters, found)
        _check_photographs(root, parameters, found)
        _check_backbone(parameters, found)
    except UserError as error:
        found.faults.append(str(error))
    if damaged := _damaged(root, params):  # DVC would break on them
        raise UserError("\n".join(dict.fromkeys([*found.faults, *damaged])))
    try:
        _check_code(root, found)
    except UserError as error:
        found.faults.append(str(error))
    check_versions(root, found)
    check_store(root, found)
    _check_graph(root, found)
    check_reviews(root, found)
    check_card(root, found)
    if found.faults:
        raise UserError("\n".join(found.faults))
    return found.in_order


def _damaged(root: Path, params: Path) -> list[str]:
    """What is no YAML, or not of the form that DVC wants, of the three files that it reads."""
    faults = []
    for read in (lambda: read_yaml(params), lambda: _read_graph(root / "dvc.yaml"), lambda: read_lock(root)):
        try:
            read()
        except UserError as error:
            faults.append(str(error))
    return faults


def _read_graph(path: Path) -> None:
    if not path.exists():  # told of by others
        return
    stages = read_yaml(path).get("stages")
    if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()):
        raise UserError(f"{path}: stages must be a mapping of names to stages: git checkout {path.name}")


def _check_study(parameters: Params, found: Findings) -> None:
    setup, setups = parameters.study.setup, parameters.select
    if setup not in setups:
        found.faults.append(f"study.setup: no {setup!r}{did_you_mean(setup, setups)}; select has {', '.join(setups)}")


def _check_photographs(root: Path, parameters: Params, found: Findings) -> None:
    """What ingest finds by name and place; photographs that are not here are told of with dvc.yaml."""
    further = [parameters.ingest.shifted, parameters.ood.far]
    places = [parameters.ingest.path, *(place for place in further if place is not None)]
    if parameters.ingest.source != "rendered" and all((root / place).is_dir() for place in places):
        look(root, parameters, found)


def _check_backbone(parameters: Params, found: Findings) -> None:
    """That its packages and stored weights are there (they are fetched) before hours go into images for it."""
    from partsynth.training.classifier import stored_weights

    try:
        weights = stored_weights(parameters.train)
    except UserError as error:
        found.faults.append(f"{error} (without it: train.backbone: reference, the embedded encoder)")
        return
    if weights:
        found.in_order.append(f"train.backbone {parameters.train.backbone}: weights {weights.source}")


def _check_code(root: Path, found: Findings) -> None:
    if changed := changed_stages(root):
        names = ", ".join(changed)
        found.faults.append(f"other code installed than recorded for {names}: `partsynth upgrade` records it")
    if stale := outdated(root):
        names = ", ".join(stale)
        found.faults.append(f"dvc.yaml names other code than runs for {names}: `partsynth upgrade` writes it")
    if lacks_adapt(root):
        found.faults.append("diffusion.adapt: dvc.yaml has no stage adapt: `partsynth upgrade` writes it")
    if keys := unwatched(root):
        found.faults.append(
            f"dvc.yaml does not name {' and '.join(keys)} as params.yaml does: `partsynth upgrade` does"
        )


def _check_graph(root: Path, found: Findings) -> None:
    """DVC's own reading of dvc.yaml, and dependencies that nothing writes and that do not exist."""
    import logging

    from dvc.dependency.param import ParamsDependency
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    missing, unnamed = defaultdict(list), defaultdict(list)
    try:
        with dvc_files(root), Repo(os.fspath(root)) as repo:
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
    except UserError as error:
        found.faults.append(str(error))
        return
    for fault, names in sorted(unnamed.items()):
        found.faults.append(f"{fault}; DVC wants it there, if only empty: {{}} ({listed(names, SHOWN, ', ')})")
    here = {path: names for path, names in missing.items() if _made_before(root, names)}
    for path, names in sorted(here.items()):
        found.in_order.append(
            f"{path} is not here, what {listed(names, SHOWN, ', ')} made of it is: `dvc repro --allow-missing` runs "
            "the rest"
        )
        del missing[path]
    for path, names in sorted(missing.items()):
        found.faults.append(f"dvc.yaml: there is no {path} and no stage writes it ({listed(names, SHOWN, ', ')})")
    if not missing and not unnamed:
        found.in_order.append(f"dvc.yaml: {len(stages)} stages, in order")


def _made_before(root: Path, names: list[str]) -> bool:
    """All that these stages make is recorded and here: a clone that pulled the data has no need of their sources."""
    lock = read_lock(root)
    outs = [out["path"] for name in names for out in lock.get(name, {}).get("outs", [])]
    return all(name in lock for name in names) and all((root / out).exists() for out in outs)


def _covered(path: str, written: list[str]) -> bool:
    """A stage writes ``path``, or a folder above it, or something below it."""
    return any(path == out or path.startswith(out + os.sep) or out.startswith(path + os.sep) for out in written)
