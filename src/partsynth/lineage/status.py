"""Which stages are out of date, as DVC sees it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from partsynth.lineage.dvc_files import dvc_files


def outdated_stages(root: Path, name: str) -> list[str]:
    """The stages among one and its ancestors whose parameters, command or inputs changed since they ran, in name order.

    A product that was altered or taken away by hand makes no stage out of date: whoever reads it checks its hash. None
    where DVC knows no stage of this name, or cannot tell.

    Raises
    ------
    UserError
        where DVC breaks on one of its files.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    with dvc_files(root):
        try:
            with Repo(str(root)) as repo:
                if not any(getattr(stage, "name", None) == name for stage in repo.index.stages):
                    return []
                changed = repo.status(targets=[f"{root.absolute() / 'dvc.yaml'}:{name}"], with_deps=True)
        except DvcException:
            return []
    altered = {path for reasons in changed.values() for path in _named(reasons, "changed outs")}
    return sorted(
        address.rpartition(":")[2]
        for address, reasons in changed.items()
        if any(isinstance(reason, str) for reason in reasons) or _named(reasons, "changed deps") - altered
    )


def _named(reasons: list[Any], kind: str) -> set[str]:
    """The paths that DVC's reasons of one kind name."""
    return {path for reason in reasons if isinstance(reason, dict) for path in reason.get(kind, {})}
