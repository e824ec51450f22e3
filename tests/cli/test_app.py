"""What a user can mend is said in a sentence; our own faults keep their traceback."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import pytest
import yaml
from helpers.cli import run

from partsynth.cli.app import fault_for_people
from partsynth.errors import UserError
from partsynth.store.process import Stop


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("partsynth.project.check.check", fail)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UserError("train.steps: should be a whole number"), 1, "partsynth: train.steps: should be a whole number"),
        (OSError(errno.ENOSPC, "No space left on device", "data/x.png"), 1, "the disk is full (data/x.png)"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "refer to: send that to a remote first"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 1, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "data"), 1, "no permission to read or write data"),
        (OSError(errno.EROFS, "Read-only file system", "data/x.png"), 1, "data/x.png lies on a disk that is mounted"),
        (OSError(errno.EFBIG, "File too large", "data/x.png"), 1, "data/x.png would be larger than a file may be here"),
        (OSError(errno.ELOOP, "Too many levels", "data/x.csv"), 1, "data/x.csv is a link that leads back to itself"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "a.csv"), 1, "a.csv is a folder, where a file belongs"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, text: str
) -> None:
    raising(monkeypatch, error)
    exit_code, out, err = run("check")
    assert exit_code == code
    assert text in err
    assert "Traceback" not in err + out


def test_an_interrupt_that_a_library_told_of_as_a_fault_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partsynth.cli.app.Commands.stop", Stop(asked=True))
    raising(monkeypatch, ImportError("cannot load module more than once per process"))
    code, out, err = run("check")
    assert code == 130 and "stopped" in err and "Traceback" not in err + out


def test_our_own_faults_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        run("check")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["generate", "--set", "nope", "--real", "r", "--tokens", "t", "--strengths", "s", "--out", "o"],
            "sets has no entry 'nope'; it has id",
        ),
        (["ingest", "--raw", "none", "--real", "r", "--ood", "o"], "none: no such folder"),
        (["summary"], "summary.json is missing"),
        (["check"], "ingest.source: should be 'rendered', 'mvip' or 'folder'"),
        (["upgrade"], "partsynth init"),
        (["study", "--trials", "3"], "ingest.source: should be"),
        (["audit", "verify"], "dvc.lock is missing"),
        (["params", "trane"], "there are render, ingest"),
        (["evaluate", "--from-predictions", "none.csv"], "none.csv"),
    ],
)
def test_a_new_users_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], text: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("sets: {id: {strength: 0.2}}\ningest: {source: photos}\n")
    if arguments[0] == "ingest":
        (tmp_path / "params.yaml").write_text("ingest: {source: folder}\n")
    code, out, err = run(*arguments)
    assert code == 1
    assert text in err
    assert "Traceback" not in err + out


@pytest.mark.slow
def test_a_full_disk_is_said_so_and_finished_work_is_kept(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        (tmp_path / "params.yaml").write_text(
            yaml.safe_dump({"render": {"size": 48, "samples": 4, "workers": 1, "classes": None}})
        )
        done = subprocess.run(
            ["partsynth", "render", "--out", disk / "raw"], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 1
        assert "the disk is full" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (disk / "raw/manifest.csv").exists()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_link_to_itself_is_named_whoever_finds_it(tmp_path: Path) -> None:
    """pathlib tells of it as a RuntimeError, which a sentence is made of; a dangling link is named as well."""
    loop, nothing = tmp_path / "loop", tmp_path / "nothing"
    loop.symlink_to("loop")
    nothing.symlink_to("gone")
    with pytest.raises(RuntimeError) as caught:
        loop.resolve(strict=True)
    assert fault_for_people(caught.value) == f"{loop} is a link that leads back to itself: remove it"
    with pytest.raises(FileNotFoundError) as missing:
        nothing.read_text()
    assert "is a link to nothing" in str(fault_for_people(missing.value))
