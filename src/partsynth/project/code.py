"""partsynth.json: a hash of each stage's code, so that two versions' products are not mixed."""

from __future__ import annotations

import json
from pathlib import Path

from partsynth import __version__
from partsynth.config.load import read_yaml
from partsynth.errors import UserError
from partsynth.lineage.code import code_hash, stage_module
from partsynth.store.files import write_json

STAMP = "partsynth.json"


def stamp(stages: list[str]) -> dict[str, object]:
    return {"partsynth": __version__, "code": {stage: code_hash(stage) for stage in stages}}


def changed_stages(root: Path) -> list[str]:
    """Stages of a project whose code differs from the recorded one; none in the repository itself."""
    path = root / STAMP
    if not path.is_file():
        return []
    try:
        recorded = json.loads(path.read_text())["code"]
        return [stage for stage in recorded if code_hash(stage) != recorded[stage]]
    except (ValueError, KeyError, TypeError, OSError):
        raise UserError(f"{path} is damaged: `git checkout {STAMP}`, or `partsynth upgrade` writes it anew") from None


def require_current(root: Path, stage: str) -> None:
    """Raise UserError where the project recorded other code for ``stage`` than is installed."""
    if stage in changed_stages(root):
        raise UserError(
            f"the installed partsynth ({__version__}) has other code for the stage {stage} than this project recorded. "
            "`partsynth upgrade` records it; `dvc repro` then runs the stages whose code changed"
        )


def upgrade(root: Path) -> str:
    """Record the installed code; returns what will run again."""
    path = root / STAMP
    if not path.is_file():
        raise UserError(f"no {STAMP} here: only projects made by `partsynth init` have one (the repository needs none)")
    stages = [name for name in read_yaml(root / "dvc.yaml").get("stages", {}) if stage_module(name).is_file()]
    try:
        changed = changed_stages(root)
    except UserError:
        changed = stages
    write_json(path, stamp(stages))
    if not changed:
        return f"{STAMP} is up to date with partsynth {__version__}"
    return f"recorded partsynth {__version__}; `dvc repro` will run again: {', '.join(changed)}, and what uses them"
