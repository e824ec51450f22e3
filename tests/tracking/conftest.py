"""Real MLflow on SQLite, real git and DVC in temporary folders."""

from __future__ import annotations

import pytest
from helpers import small_project


@pytest.fixture(autouse=True)
def no_outside_store(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "PARTSYNTH_ROOT", "DVC_STAGE", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    return small_project.finished(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """A folder with neither git nor DVC; tests share its store (making one takes MLflow seconds)."""
    return tmp_path_factory.mktemp("plain")
