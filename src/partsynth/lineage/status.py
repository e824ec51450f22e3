"""Which stages are out of date, as DVC sees it."""

from __future__ import annotations

import logging
from pathlib import Path


def outdated_stages(root: Path, name: str) -> list[str]:
    """The stages among one and its ancestors that `dvc repro` would run, in name order; none where DVC knows no stage
    of this name, or cannot tell."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    try:
        with Repo(str(root)) as repo:
            if not any(getattr(stage, "name", None) == name for stage in repo.index.stages):
                return []
            changed = repo.status(targets=[f"{root.absolute() / 'dvc.yaml'}:{name}"], with_deps=True)
    except DvcException:
        return []
    return sorted(address.rpartition(":")[2] for address in changed)
