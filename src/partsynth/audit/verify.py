"""The workspace against its hashes, manifests and the rules against leaks. Every fault is named, none is repaired."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from partsynth.audit.manifests import check_manifests
from partsynth.audit.outputs import check_outputs
from partsynth.audit.result import Result
from partsynth.audit.stages import absent_photographs, check_stages
from partsynth.audit.workspace import Workspace
from partsynth.errors import UserError
from partsynth.lineage.graph import LOCK, read_lock
from partsynth.lineage.objects import Objects


def verify(root: Path) -> Result:
    """Check everything; faults are sorted by path.

    Raises
    ------
    UserError
        where there is nothing to check: no DVC repository, no dvc.lock.
    """
    root = root.resolve()
    locked = read_lock(root)
    if not locked:
        raise UserError(f"{root / LOCK} is missing: nothing has run here yet (dvc repro)")
    with Objects(root) as objects:
        space = Workspace(root, objects.ignored)
        pipeline = objects.pipeline()
        # DVC keeps the entries of stages that dvc.yaml has no longer; they are no part of the project
        stages = {name: stage for name, stage in locked.items() if name in pipeline}
        listings, faults = check_outputs(space, objects, stages, pipeline)
        faults += check_stages(space, stages, pipeline, listings)
    checked: dict[str, Any] = {"stages": len(stages), "files": sum(map(len, listings.values()))}
    if left_over := len(locked) - len(stages):
        checked["stages in dvc.lock that dvc.yaml has no longer"] = left_over
    if not_here := absent_photographs(root, stages):
        checked["photographs that are not here, so that their hashes were not checked"] = ", ".join(not_here)
    counts, unsound = check_manifests(space, stages)
    unique = {*faults, *unsound}
    return Result(
        "verify", {"checked": checked | counts}, sorted(unique, key=lambda fault: (fault.path, fault.message))
    )
