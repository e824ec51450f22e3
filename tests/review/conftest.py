from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers import reviewed_project


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with judged sets; not to be changed."""
    return reviewed_project.make(tmp_path_factory.mktemp("judged") / "parts")


@pytest.fixture
def project(judged: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(judged, tmp_path / "parts"))
