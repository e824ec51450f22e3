"""Garbage collected by git and DVC themselves: audits of what was kept pass, and say of the rest what is gone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from helpers import small_project
from helpers.audits import runs_named

from partsynth.audit.checkout import checkout_run
from partsynth.audit.push import push_runs
from partsynth.audit.verify import verify


def gc(root: Path, **what: Any) -> None:
    """`dvc gc`, its question answered with yes."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        repo.gc(force=True, **what)


def test_what_gc_takes_is_named(changed: Path, tmp_path: Path) -> None:
    root = small_project.copy(changed, tmp_path / "copy")
    older, newer = (run.run_id for run in runs_named(root, "real_id-seed0"))
    small_project.dvc(root, "remote", "add", "-d", "store", str(tmp_path / "remote"))
    assert push_runs(root).faults == []
    config = root / ".dvc/config"
    config.write_text("")
    gc(root, workspace=True)
    assert verify(root).faults == [] and checkout_run(root, newer, tmp_path / "newer").faults == []
    faults = checkout_run(root, older, tmp_path / "older").faults
    assert faults and not (tmp_path / "older").exists()
    assert all("is in neither cache nor remotes (none configured)" in fault.message for fault in faults), faults
    assert {fault.path for fault in faults} >= {"data/augmented/id"}


def test_gc_of_all_commits_and_of_git_take_nothing_that_a_commit_names(
    project: Path, changed: Path, tmp_path: Path
) -> None:
    root = small_project.copy(changed, tmp_path / "copy")
    for lock in (project / "dvc.lock", changed / "dvc.lock"):
        shutil.copy(lock, root)
        small_project.command(root, "git", "add", "dvc.lock", "params.yaml", "dvc.yaml")
        small_project.command(root, "git", "commit", "-qm", "a state")
    gc(root, all_commits=True)
    small_project.command(root, "git", "gc", "-q", "--prune=now")
    assert verify(root).faults == []
    for n, run in enumerate(runs_named(root, "real_id-seed0")):
        assert checkout_run(root, run.run_id, tmp_path / f"run {n}").faults == []
