"""What git says of a project: commit, uncommitted changes, and whose working copy it is."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from partsynth.errors import UserError
from partsynth.lineage.graph import LOCK


@dataclass(frozen=True)
class GitState:
    """``commit`` is None outside git or before the first commit; ``patch`` is ``git diff HEAD`` without dvc.lock."""

    commit: str | None
    dirty: bool
    patch: bytes


def git(root: Path, *arguments: str) -> bytes | None:
    """Standard output of a git command in ``root``; None where git fails or is missing."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, check=False, capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def git_state(root: Path) -> GitState | None:
    """Commit and uncommitted changes of tracked files other than dvc.lock; None outside a git repository.

    Raises
    ------
    UserError
        where git refuses a repository that is there.
    """
    if (git(root, "rev-parse", "--is-inside-work-tree") or b"").strip() != b"true":
        require_readable(root)
        return None
    only = ("--", ".", f":(exclude,glob)**/{LOCK}", f":(exclude){LOCK}")
    commit = git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if commit is None:  # no commit yet: nothing that could be named
        return GitState(None, True, b"")
    changed = git(root, "status", "--porcelain", "--untracked-files=no", *only)
    patch = git(root, "diff", "--binary", "HEAD", *only) if changed else b""
    return GitState(commit.decode().strip(), bool(changed), patch or b"")


def require_readable(root: Path) -> None:
    """Tell "git refuses" from "no git": in containers and on network drives a folder is often another user's.

    Raises
    ------
    UserError
        with git's own words, where a repository is there and git does not read it.
    """
    if not any((folder / ".git").exists() for folder in (root.absolute(), *root.absolute().parents)):
        return
    try:
        done = subprocess.run(["git", "rev-parse", "--git-dir"], cwd=root, check=False, capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise UserError(f"git does not read the repository of {root}, and a run must name its commit: {said}")


def files_at(root: Path, commit: str, path: str) -> dict[str, bytes]:
    """Relative path -> bytes of a file (its path is "") or folder of a commit; empty where the commit has none.

    ``commit`` must be a whole hash: what a run's tag says instead ("absent: ...") names no files.
    """
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        return {}
    archive = git(root, "archive", "--format=tar", commit, "--", path)
    if archive is None:
        return {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        streams = {member.name: tar.extractfile(member) for member in tar.getmembers() if member.isfile()}
        return {name[len(path) + 1 :]: stream.read() for name, stream in streams.items() if stream is not None}


def changed_between(root: Path, first: str, second: str) -> list[str] | None:
    """Paths that differ between two commits, relative to ``root``; None where git lacks one of them."""
    named = git(root, "diff", "--name-only", "--relative", first, second, "--")
    return None if named is None else named.decode().splitlines()


def home(root: Path) -> Path:
    """The project whose MLflow store and DVC cache a working copy belongs to.

    ``PARTSYNTH_ROOT`` where set; the repository that holds the ``dvc exp run --temp`` copy; the main one of several
    git worktrees; else ``root`` itself. Always absolute.
    """
    if named := os.environ.get("PARTSYNTH_ROOT"):
        return Path(named).resolve()
    root = root.resolve()
    for folder in root.parents:  # dvc exp run --temp: <home>/.dvc/tmp/exps/<kind>/<name>[/sub]
        if folder.name == "exps" and folder.parent.name == "tmp" and folder.parent.parent.name == ".dvc":
            copy_top = root.relative_to(folder).parts[:2]
            return folder.parents[2] / root.relative_to(folder.joinpath(*copy_top))
    found = git(root, "rev-parse", "--git-common-dir", "--show-prefix")
    if found is not None:
        common, prefix = (found.decode() + "\n").split("\n")[:2]
        common_dir = (root / common).resolve()
        if common_dir.name == ".git" and (common_dir.parent / prefix).is_dir():
            return common_dir.parent / prefix
    return root
