"""Journals that a killed worker left."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from helpers import small_project

from partsynth.errors import UserError
from partsynth.study.journal import mend
from partsynth.study.storage import load_study, open_storage


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    settings = small_project.study_params().study
    study = optuna.create_study(study_name=settings.name, storage=open_storage(settings, tmp_path))
    study.enqueue_trial({"x": 1.0})
    return tmp_path / settings.storage


def trials(root: Path) -> int:
    return len(load_study(small_project.study_params().study, root).trials)


def test_a_torn_last_line_is_taken_out_and_told(
    journal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"worker_id":"x","stu')
    assert trials(tmp_path) == 1
    assert "1 record(s) that a killed worker left cut off" in capsys.readouterr().out
    assert journal.read_bytes() == whole and mend(journal) is None
    study = load_study(small_project.study_params().study, tmp_path)
    study.enqueue_trial({"x": 2.0})
    assert trials(tmp_path) == 2


def test_a_record_glued_to_a_torn_one_is_kept(journal: Path, tmp_path: Path) -> None:
    *lines, last = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines) + b'{"op_code":4,"worker_id":"x","stu' + last)
    assert trials(tmp_path) == 1


def test_other_damage_is_named(journal: Path, tmp_path: Path) -> None:
    first, *rest = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(first + b"\x00\x00\n" + b"".join(rest))
    with pytest.raises(UserError, match=r"line 2 of .* is no record of a study"):
        trials(tmp_path)


@pytest.mark.parametrize("data", [b"[[[[", b"{}", b"[1, 2]", b"<html>"])
def test_what_is_no_journal_is_not_emptied(journal: Path, data: bytes) -> None:
    """A last line without its end is a cut-off record only where it begins as one."""
    journal.write_bytes(data)
    with pytest.raises(UserError, match=r"line 1 of .* is no record of a study"):
        mend(journal)
    assert journal.read_bytes() == data


def test_zeros_that_a_power_cut_left_are_taken_out(journal: Path, tmp_path: Path) -> None:
    whole = journal.read_bytes()
    journal.write_bytes(whole + bytes(100))
    assert trials(tmp_path) == 1 and journal.read_bytes() == whole
