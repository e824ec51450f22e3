"""Which project a run belongs to, where several keep theirs on one server."""

from __future__ import annotations

from pathlib import Path

from partsynth.lineage.git import git, home
from partsynth.store.hashing import sha256_bytes

LENGTH = 12  # hexadecimal digits: enough for all projects of a server


def project_id(root: Path) -> str | None:
    """The same in every clone, worktree and temporary copy of a project, and no other's: from the first commit of its
    history and its folder in the repository. None where git has no commit, or only the last ones (a shallow clone)."""
    found = git(home(root), "rev-parse", "--is-shallow-repository", "--show-prefix")
    shallow, prefix = ((found or b"true").decode() + "\n\n").split("\n")[:2]
    if shallow != "false":
        return None
    first = (git(home(root), "rev-list", "--max-parents=0", "HEAD") or b"").decode().split()
    return sha256_bytes(f"{min(first)} {prefix}".encode())[:LENGTH] if first else None
