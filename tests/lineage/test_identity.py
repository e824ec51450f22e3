"""Whose project it is."""

from __future__ import annotations

from pathlib import Path

from helpers.small_project import command

from partsynth.lineage.identity import project_id


def project(folder: Path, text: str) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/file").write_text(text)
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", text]):
        command(folder, "git", *arguments)
    return folder


def test_clones_are_one_project_and_others_are_not(tmp_path: Path) -> None:
    one, two = project(tmp_path / "one", "1"), project(tmp_path / "two", "2")
    command(tmp_path, "git", "clone", "-q", str(one), "copy")
    command(tmp_path / "copy", "git", "commit", "-q", "--allow-empty", "-m", "later")
    assert project_id(tmp_path / "copy") == project_id(one) != project_id(two)
    assert project_id(one / "sub") not in (None, project_id(one))  # another project of the same repository


def test_where_the_first_commit_is_not_known(tmp_path: Path) -> None:
    assert project_id(tmp_path) is None
    command(tmp_path, "git", "init", "-q", "empty")
    assert project_id(tmp_path / "empty") is None
    one = project(tmp_path / "one", "1")
    command(one, "git", "commit", "-q", "--allow-empty", "-m", "later")
    command(tmp_path, "git", "clone", "-q", "--depth", "1", f"file://{one}", "shallow")
    assert project_id(tmp_path / "shallow") is None
