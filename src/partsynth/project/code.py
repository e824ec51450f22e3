"""partsynth.json: a hash of each stage's code, so that two versions' products are not mixed."""

from __future__ import annotations

import json
from pathlib import Path

from partsynth import __version__
from partsynth.errors import UserError
from partsynth.lineage.code import code_hash

STAMP = "partsynth.json"


def stamp(stages: list[str]) -> dict[str, object]:
    """The content of partsynth.json for the installed code."""
    return {"partsynth": __version__, "code": {stage: code_hash(stage) for stage in stages}}


def changed_stages(root: Path) -> list[str]:
    """Stages of a project whose code differs from the recorded one; none in the repository itself.

    Raises
    ------
    UserError
        where the record is damaged.
    """
    path = root / STAMP
    if not path.is_file():
        return []
    try:
        recorded = json.loads(path.read_text())["code"]
        return [stage for stage in recorded if code_hash(stage) != recorded[stage]]
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        raise UserError(f"{path} is damaged: `git checkout {STAMP}`, or `partsynth upgrade` writes it anew") from None


def require_current(root: Path, stage: str) -> None:
    """Let a stage run only with the code that the project recorded for it.

    Raises
    ------
    UserError
        where other code is installed.
    """
    if stage in changed_stages(root):
        raise UserError(
            f"the installed partsynth ({__version__}) has other code for the stage {stage} than this project recorded. "
            "`partsynth upgrade` records it; `dvc repro` then runs the stages whose code changed"
        )
