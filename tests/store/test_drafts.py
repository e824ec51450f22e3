"""What a killed process left half-written goes with the next write; what another process is writing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from partsynth.store import drafts
from partsynth.store.files import draft_of, write_text_atomic

WRITER = """
import os, sys
from pathlib import Path
from partsynth.store import drafts
kind, path = sys.argv[1], Path(sys.argv[2])
if kind == "file":
    handle, _ = drafts.draft_file(path)
    os.write(handle, b"half")
    print("begun", flush=True)
    sys.stdin.read()
else:
    with drafts.draft_folder(path) as folder:
        (folder / "half.db").write_text("half")
        print("begun", flush=True)
        sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_drafts_of_a_killed_writer_go_and_those_of_a_living_one_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "table.csv"
    command = [sys.executable, "-c", WRITER, kind, os.fspath(path)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout is not None and writer.stdout.readline() == b"begun\n"
    (draft,) = names(tmp_path)

    def write() -> None:
        monkeypatch.setattr(drafts, "_SWEPT", set())  # as in a process of its own
        with draft_of(path) if kind == "folder" else draft_of(tmp_path / "other.db") as other:
            other.write_text("whole")
        write_text_atomic(tmp_path / "another.csv", "whole")

    write()
    assert draft in names(tmp_path)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert draft in names(tmp_path)
    path.unlink(missing_ok=True)
    write()
    assert draft not in names(tmp_path) and not [n for n in names(tmp_path) if n.endswith(".tmp")]


def test_files_that_only_look_alike_stay(tmp_path: Path) -> None:
    for name in (".notes.tmp", "a.abcdefgh.tmp", ".a.ABCDEFGH.tmp", "a.csv"):
        (tmp_path / name).write_text("mine")
    (tmp_path / ".link.abcdefgh.tmp").symlink_to(tmp_path / "a.csv")
    before = names(tmp_path)
    drafts.sweep(tmp_path)
    drafts.sweep(tmp_path, "link")
    assert names(tmp_path) == before


def test_a_failed_write_names_the_file_and_not_its_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError) as caught:
        write_text_atomic(tmp_path / "a.csv", "x")
    assert caught.value.filename == os.fspath(tmp_path / "a.csv") and not names(tmp_path)
