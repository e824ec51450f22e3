"""partsynth.json: a project's products are not mixed with those of other code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from partsynth.errors import UserError
from partsynth.lineage.code import code_hash
from partsynth.project.code import STAMP, changed_stages, require_current, stamp


def record(folder: Path, **code: str) -> None:
    (folder / STAMP).write_text(json.dumps({"partsynth": "0.0.1", "code": code}))


def test_a_stage_refuses_other_code(tmp_path: Path) -> None:
    record(tmp_path, ingest=code_hash("ingest"), train="old")
    assert changed_stages(tmp_path) == ["train"]
    require_current(tmp_path, "ingest")
    with pytest.raises(UserError, match=r"other code for the stage train.*partsynth upgrade"):
        require_current(tmp_path, "train")


def test_what_is_stamped_is_current(tmp_path: Path) -> None:
    (tmp_path / STAMP).write_text(json.dumps(stamp(["ingest", "train"])))
    assert changed_stages(tmp_path) == []


@pytest.mark.parametrize("text", ["{", "[]", '{"code": {"no_such_stage": "x"}}'])
def test_a_damaged_record_stops(tmp_path: Path, text: str) -> None:
    (tmp_path / STAMP).write_text(text)
    with pytest.raises(UserError, match="is damaged"):
        require_current(tmp_path, "train")


def test_the_repository_itself_needs_no_record(tmp_path: Path) -> None:
    require_current(tmp_path, "train")
    assert changed_stages(tmp_path) == []
