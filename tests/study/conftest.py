"""Finished data for studies, and a PostgreSQL server."""

from __future__ import annotations

import pytest
from helpers import postgres as server
from helpers import small_project


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    return small_project.finished(tmp_path_factory.getbasetemp())


@pytest.fixture
def project(finished, tmp_path):
    return small_project.copy(finished, tmp_path / "project")


@pytest.fixture
def postgres():
    """A PostgreSQL server of this test's own; its address."""
    binaries = server.find()
    if binaries is None:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    with server.serve(binaries) as address:
        yield address
