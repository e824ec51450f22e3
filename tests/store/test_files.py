"""Files: nothing is half-written, nothing of somebody else is deleted, no name leaves its folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from partsynth.errors import UserError
from partsynth.store import files
from partsynth.store.files import inside, read_json, write_json, write_text_atomic


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_text_atomic(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_text_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_written_files_are_readable_by_others(tmp_path: Path) -> None:
    write_text_atomic(tmp_path / "new/a.txt", "x")
    assert stat.S_IMODE((tmp_path / "new/a.txt").stat().st_mode) == 0o644


def test_prune_takes_strangers_and_empty_folders_only(tmp_path: Path) -> None:
    for name in ("keep/a.png", "keep/b.png", "gone/c.png"):
        write_text_atomic(tmp_path / name, "x")
    gone = files.prune(tmp_path, [tmp_path / "keep/a.png"])
    assert [p.name for p in gone] == ["c.png", "b.png"]
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == ["keep", "keep/a.png"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a\\b", ""])
def test_no_name_leaves_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError):
        files.inside(tmp_path, name)


def test_no_link_leaves_its_folder(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/out").symlink_to(tmp_path)
    with pytest.raises(UserError, match="leaves the folder"):
        files.inside(tmp_path / "root", "out/x.png")


def test_bad_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"a.json is not valid JSON"):
        read_json(tmp_path / "a.json")
    write_json(tmp_path / "b.json", {"b": np.float32(0.5), "a": Path("x")})
    assert (tmp_path / "b.json").read_text() == '{\n "a": "x",\n "b": 0.5\n}\n'


def test_what_a_stage_did_not_make_is_refused(tmp_path: Path) -> None:
    wanted, ours, foreign = (tmp_path / name for name in ("a/wanted.jpg", "a/ours.csv", "b/photo.jpg"))
    for path in (wanted, ours):
        write_text_atomic(path, "x")

    def refuse(folder: Path = tmp_path) -> None:
        files.refuse_foreign(folder, [wanted], lambda path: path.suffix == ".csv", "move them")

    refuse()
    refuse(tmp_path / "not there")
    write_text_atomic(foreign, "x")
    with pytest.raises(UserError, match=r"holds \S*b/photo.jpg, which this stage did not make: move them$"):
        refuse()
    write_text_atomic(tmp_path / "c.jpg", "x")
    with pytest.raises(UserError, match=r"b/photo.jpg and 1 more files, which"):
        refuse()
    assert foreign.exists()


def test_a_file_that_a_library_makes_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "new/made.db"

    def fail() -> None:
        with files.draft_of(path) as draft:
            draft.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list((tmp_path / "new").iterdir()) == []
    with files.draft_of(path) as draft:
        draft.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole" and [p.name for p in path.parent.iterdir()] == ["made.db"]
    with files.draft_of(path) as draft:  # another process was first
        draft.write_text("later")
    assert path.read_text() == "whole"


def test_dvc_s_own_links_are_inside_and_others_are_not(tmp_path: Path) -> None:
    cached = tmp_path / "shared cache/files/md5/ab" / ("c" * 30)
    write_text_atomic(cached, "x")
    write_text_atomic(tmp_path / "secret.txt", "x")
    (data := tmp_path / "project/data").mkdir(parents=True)
    (data / "a.png").symlink_to(cached)
    (data / "b.png").symlink_to(tmp_path / "secret.txt")
    (data / "c.png").symlink_to(tmp_path / "shared cache/files/md5/ab/../../../../secret.txt")
    (data / "folder").symlink_to(cached.parent)
    assert files.inside(tmp_path / "project", "data/a.png").read_text() == "x"
    for name in ("data/b.png", "data/c.png", f"data/folder/{cached.name}"):
        with pytest.raises(UserError, match="leaves the folder"):
            files.inside(tmp_path / "project", name)


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("a.png")
    with pytest.raises(UserError, match=r"a\.png is a link that leads back to itself|leaves the folder"):
        inside(tmp_path, "a.png")
