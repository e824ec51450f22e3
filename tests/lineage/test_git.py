"""What git says of a project."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small_project import command

from partsynth.errors import UserError
from partsynth.lineage.git import changed_between, files_at, git, git_state


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits, in a project below the repository's root."""
    command(tmp_path, "git", "init", "-q", "-b", "main")
    root = tmp_path / "project"
    (root / "src").mkdir(parents=True)
    (root / "src/a.py").write_text("1")
    (root / "b.txt").write_text("1")
    for text in ("1", "2"):
        (root / "src/a.py").write_text(text)
        command(root, "git", "add", "-A")
        command(root, "git", "commit", "-qm", text)
    return root


def commits(root: Path) -> list[str]:
    return (git(root, "log", "--reverse", "--format=%H") or b"").decode().split()


def test_files_of_a_commit(repository: Path) -> None:
    first, second = commits(repository)
    assert files_at(repository, first, "src") == {"a.py": b"1"}
    assert files_at(repository, second, "src/a.py") == {"": b"2"}
    assert files_at(repository, first, "nothing") == {}
    for told in ("absent: not a git repository", "HEAD", "", "0" * 40):
        assert files_at(repository, told, "src") == {}


def test_what_changed_between_commits(repository: Path) -> None:
    first, second = commits(repository)
    assert changed_between(repository, first, second) == ["src/a.py"]
    assert changed_between(repository, first, first) == []
    assert changed_between(repository, first, "0" * 40) is None


def test_the_state_of_a_working_tree(repository: Path, tmp_path: Path) -> None:
    clean = git_state(repository)
    assert clean is not None and (clean.commit, clean.dirty, clean.patch) == (commits(repository)[1], False, b"")
    (repository / "dvc.lock").write_text("x")
    (repository / "untracked").write_text("x")
    assert git_state(repository) == clean
    (repository / "b.txt").write_text("2")
    dirty = git_state(repository)
    assert dirty is not None and dirty.dirty and b"b.txt" in dirty.patch


def test_outside_git_nothing_is_known(tmp_path: Path) -> None:
    assert git(tmp_path, "rev-parse", "HEAD") is None and git_state(tmp_path) is None
    command(tmp_path, "git", "init", "-q")
    state = git_state(tmp_path)
    assert state is not None and state.commit is None and state.dirty


def test_git_s_refusal_is_quoted(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a folder that belongs to another user: containers, network drives."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(UserError, match=r"dubious ownership .*safe\.directory"):
        git_state(repository)
