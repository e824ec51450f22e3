"""One evaluated project for all tests of the folder; they run in it."""

from __future__ import annotations

import pytest
from helpers.evaluated_project import Project


@pytest.fixture(scope="session")
def evaluated_project(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("evaluated")).make()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.root)
        summary = project.evaluate()
    return project, summary


@pytest.fixture
def evaluated(evaluated_project):
    """Its summary."""
    return evaluated_project[1]


@pytest.fixture
def predictions(evaluated_project):
    """Its table of predictions."""
    return evaluated_project[0].root / "reports/metrics/predictions.csv"
