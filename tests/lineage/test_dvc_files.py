"""What DVC breaks on is told with the file's name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from partsynth.errors import UserError
from partsynth.lineage.dvc_files import dvc_files
from partsynth.lineage.objects import Objects
from partsynth.lineage.status import outdated_stages


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: echo}}")
    (tmp_path / "data").write_text("x")
    subprocess.run([sys.executable, "-m", "dvc", "add", "-q", "data"], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize(
    "text", ["", "outs: []", "outs: [{md5: abc}]", "outs:\n- " + "[" * 3000, "outs: 3", "[1]", "outs: [{path: 3}]"]
)
def test_a_damaged_dvc_file_is_named(project: Path, text: str) -> None:
    with Objects(project) as objects:
        assert list(objects.pipeline()) == ["a"]
    (project / "data.dvc").write_text(text)
    with Objects(project) as objects:
        try:
            objects.pipeline()
        except UserError as error:
            assert "data.dvc" in str(error)
        else:
            assert text in ("", "outs: []")  # of no output nothing is wanted


@pytest.mark.parametrize("cmd", [".nan", "{a: [1]}", "[" * 3000])
def test_a_damaged_dvc_yaml_is_named(project: Path, cmd: str) -> None:
    (project / "dvc.yaml").write_text(f"stages: {{a: {{cmd: {cmd}}}}}")
    with Objects(project) as objects, pytest.raises(UserError, match=r"dvc\.yaml"):
        objects.pipeline()


def test_whether_a_stage_is_out_of_date_is_not_told_of_a_damaged_file(project: Path) -> None:
    assert outdated_stages(project, "b") == []
    (project / "data.dvc").write_text("outs: [{md5: abc}]")
    with pytest.raises(UserError, match=r"data\.dvc is not of the form that DVC wants"):
        outdated_stages(project, "a")


def test_faults_that_are_told_already_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^mine$"), dvc_files(tmp_path):
        raise UserError("mine")
