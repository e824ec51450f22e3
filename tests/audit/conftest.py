from __future__ import annotations

from pathlib import Path

import pytest
from helpers import audits, small_project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished small project; not to be changed."""
    return small_project.finished(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after one more `dvc repro` with a changed parameter; not to be changed further."""
    return audits.changed(tmp_path_factory.getbasetemp())


@pytest.fixture
def copied(project: Path, tmp_path: Path) -> Path:
    return small_project.copy(project, tmp_path / "copy")
