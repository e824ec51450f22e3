"""Every test runs away from the network and the user's settings, and does not fight its neighbours for cores."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from partsynth.store import process
from partsynth.store.files import draft_of

ROOT = Path(__file__).parents[1]

# before torch, and inherited by the stages that tests start
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
for name in [n for n in os.environ if n.startswith(("MLFLOW_", "DVC_", "GIT_"))]:
    del os.environ[name]
os.environ |= {
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),  # stages call `partsynth`
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "MPLBACKEND": "Agg",
    "COLUMNS": "120",
    "NO_COLOR": "1",
    **{f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    "GIT_CONFIG_GLOBAL": os.devnull,
}


process.keep_memory()


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """A test that works as a study's worker does sets torch's threads for the whole process: they are put back."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    yield
    if before is not None and torch is not None:
        torch.set_num_threads(before)
    elif "torch" in sys.modules and "OMP_NUM_THREADS" in os.environ:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def _nobody_asked() -> None:
    """A process that was asked to stop stays so; the next test is another process."""
    process._listening.clear()
    process._in = process._Whole()
    if (app := sys.modules.get("partsynth.cli.app")) is not None:
        app.Commands.stop = process.Stop()


@pytest.fixture(scope="session", autouse=True)
def _stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """MLflow takes a second to make a store: one is made, the others are copies of it."""
    from partsynth.tracking import store

    make, first = store._make, tmp_path_factory.getbasetemp() / "first.db"

    @functools.wraps(make)
    def copied(path: Path) -> None:
        if not first.is_file():
            make(first)
        with draft_of(path) as draft:
            shutil.copyfile(first, draft)

    store._make = copied
    yield
    store._make = make


def pytest_collection_modifyitems(items: list) -> None:
    """Files with slow tests first: with ``--dist loadfile`` no worker is left with a long one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
