"""Which data made this model, where did this picture come from, what came of this photograph: answered by hash.

Every command collects what it can say and every fault on the way; a fault, that is anything missing or unverifiable,
makes the exit code 1. Runs are read from MLflow and, where a fresh clone has no store, from the ``run.json`` beside
each trained model; data from the workspace or by hash from DVC's cache and remotes, never by git revision.
"""

from __future__ import annotations

from pathlib import Path

from partsynth.audit import verify as audit_verify
from partsynth.audit.result import Result


def verify(root: Path) -> Result:
    """The workspace against its hashes, manifests and the leak rules."""
    counts, faults = audit_verify.check_workspace(root)
    return Result("verify", {"checked": counts}, faults)
