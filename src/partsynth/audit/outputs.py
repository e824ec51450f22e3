"""Every output of the pipeline against dvc.lock, in the workspace and in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from partsynth.audit.result import Fault
from partsynth.audit.workspace import Workspace
from partsynth.errors import UserError
from partsynth.lineage.digests import listing_md5
from partsynth.lineage.graph import Stages
from partsynth.lineage.objects import Objects, PipelineStage

Files = dict[str, str]  # relative path -> md5; of a single file the path is ""


def check_outputs(
    space: Workspace, objects: Objects, stages: Stages, pipeline: dict[str, PipelineStage]
) -> tuple[dict[str, Files], list[Fault]]:
    """Returns the files of every output as dvc.lock has them, and the faults.

    An output whose files nobody can list any more is not among the first; it is still compared as a whole.
    """
    uncached = {path for stage in pipeline.values() for path in stage.uncached}
    listings: dict[str, Files] = {}
    faults: list[Fault] = []
    for name, stage in sorted(stages.items()):
        for out in stage.get("outs", []):
            path, md5 = out["path"], out.get("md5")
            if md5 is None:
                faults.append(Fault(path, f"dvc.lock has no hash of this output of {name}"))
                continue
            actual = _lying_here(space, path, md5)
            if actual is None:
                faults.append(Fault(path, "missing from the workspace (dvc checkout restores it)"))
            recorded: Files | None = {"": md5}
            if md5.endswith(".dir"):
                recorded = actual if actual is not None and listing_md5(actual) == md5 else None
                if path not in uncached:
                    try:
                        recorded = objects.listing(md5)
                    except UserError as error:
                        faults.append(Fault(path, f"the folder's listing cannot be read: {error}"))
            if recorded is None:
                if actual is not None:
                    faults.append(Fault(path, f"the folder differs from dvc.lock ({md5}), {name}'s output"))
                continue
            listings[path] = recorded
            if actual is not None:
                faults += _differences(path, recorded, actual)
            if path not in uncached:
                faults += _uncached(space.root, objects, path, recorded)
    return listings, faults


def _lying_here(space: Workspace, path: str, md5: str) -> Files | None:
    """What lies at an output's place; None where it is missing, or a folder instead of a file or the reverse."""
    if md5.endswith(".dir"):
        return space.files(path) if (space.root / path).is_dir() else None
    if not (space.root / path).is_file():
        return None
    digest = space.digest(path)
    return None if digest is None else {"": digest}


def _differences(path: str, recorded: Files, actual: Files) -> Iterator[Fault]:
    for name in sorted(recorded.keys() | actual.keys()):
        full = f"{path}/{name}" if name else path
        if name not in actual:
            yield Fault(full, "missing from the workspace (dvc checkout restores it)")
        elif name not in recorded:
            yield Fault(full, "not among the outputs that dvc.lock records")
        elif actual[name] != recorded[name]:
            yield Fault(full, f"altered: md5 {actual[name]}, dvc.lock says {recorded[name]}")


def _uncached(root: Path, objects: Objects, path: str, recorded: Files) -> Iterator[Fault]:
    """Files that the cache lacks or holds damaged."""
    for name, md5 in sorted(recorded.items()):
        full = f"{path}/{name}" if name else path
        cached, here = objects.path(md5), root / full
        if here.is_file() and cached.is_file() and here.samefile(cached):
            continue  # a link: one file, checked as the workspace's
        try:
            objects.read(md5)
        except UserError as error:
            yield Fault(full, str(error))
