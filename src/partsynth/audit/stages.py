"""What each stage used when it ran, against what there is now: commands, parameters, dependencies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from partsynth.audit.outputs import Files
from partsynth.audit.result import Fault
from partsynth.audit.workspace import Workspace
from partsynth.lineage.digests import listing_md5
from partsynth.lineage.graph import LOCK, Stages, covers
from partsynth.lineage.objects import PipelineStage
from partsynth.store.yaml_rule import load_yaml


def check_stages(
    space: Workspace, stages: Stages, pipeline: Mapping[str, PipelineStage], listings: Mapping[str, Files]
) -> Iterator[Fault]:
    """``listings``: the files of every output as dvc.lock has them; what ``absent_photographs`` names is no fault."""
    not_here = absent_photographs(space.root, stages)
    for name, known in sorted(pipeline.items()):
        if name not in stages and not known.frozen:
            yield Fault(LOCK, f"stage {name} has not run (dvc repro)")
    values: dict[str, Any] = {}
    for name, stage in sorted(stages.items()):
        if pipeline[name].frozen:
            continue
        if stage.get("cmd") != pipeline[name].cmd:
            yield Fault("dvc.yaml", f"the command of {name} changed since it ran (dvc repro)")
        for file, params in stage.get("params", {}).items():
            if file not in values:
                values[file] = _read_yaml(space.root / file)
            for key, value in params.items():
                for changed in _changed(key, value, _lookup(values[file], key)):
                    yield Fault(file, f"{changed} is not as {LOCK} has it of {name}: dvc repro")
        for dep in stage.get("deps", []):
            now = _digest_now(space, dep["path"], listings)
            if now is None and dep["path"] not in not_here:
                yield Fault(dep["path"], f"missing, {name} depends on it")
            elif now is not None and now != dep.get("md5"):
                yield Fault(dep["path"], f"{name} ran on another version (md5 {dep.get('md5')}): dvc repro")


def absent_photographs(root: Path, stages: Stages) -> list[str]:
    """Folders of photographs as they came that are recorded and not here: who clones a project pulls what was made of
    them. Those that DVC keeps (``PATH.dvc``) are none of these: it restores them."""
    named = {path for stage in stages.values() for path in _photographs(stage.get("params", {}))}
    used = {dep["path"] for stage in stages.values() for dep in stage.get("deps", [])} & named
    made = [out["path"] for stage in stages.values() for out in stage.get("outs", [])]
    return sorted(
        path
        for path in used
        if not (root / path).exists()
        and not (root / f"{path}.dvc").exists()
        and not any(covers(out, path) or covers(path, out) for out in made)
    )


def _photographs(params: Mapping[str, Any]) -> Iterator[str]:
    """What the recorded parameters of a stage name: ``ingest.path``, ``ingest.shifted``, ``ood.far``."""
    for values in params.values():
        for section, key in (("ingest", "path"), ("ingest", "shifted"), ("ood", "far")):
            if isinstance(path := _lookup(values, f"{section}.{key}"), str):
                yield path


def _digest_now(space: Workspace, path: str, listings: Mapping[str, Files]) -> str | None:
    """The digest of a dependency: of an output (or a part of one) what dvc.lock says, of another file what lies there.

    So one flipped byte is named once, and not again for every stage that reads the folder.
    """
    for out, files in listings.items():
        if out == path:
            return listing_md5(files) if "" not in files else files[""]
        if covers(out, path):
            inner = path[len(out) + 1 :]
            below = {name[len(inner) + 1 :]: md5 for name, md5 in files.items() if name.startswith(inner + "/")}
            return files.get(inner) or (listing_md5(below) if below else None)
    held = {out: files for out, files in listings.items() if covers(path, out)}
    if not held:
        return space.digest(path)
    joined = {
        name: md5 for name, md5 in space.files(path).items() if not any(covers(out, f"{path}/{name}") for out in held)
    }
    for out, files in held.items():
        prefix = out[len(path) + 1 :]
        joined |= {f"{prefix}/{name}" if name else prefix: md5 for name, md5 in files.items()}
    return listing_md5(joined)


def _read_yaml(path: Path) -> Any:
    try:
        found = load_yaml(path.read_text())
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}


def _lookup(values: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values:
            return None
        values = values[part]
    return values


def _changed(key: str, before: Any, now: Any) -> Iterator[str]:
    """The innermost keys whose values differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted(before.keys() | now.keys()):
            yield from _changed(f"{key}.{name}", before.get(name), now.get(name))
    elif before != now:
        yield key
