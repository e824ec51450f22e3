"""Two projects whose runs lie in one store."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.runs import start
from helpers.small_project import command

from partsynth.errors import UserError
from partsynth.tracking.query import find_runs, get_run
from partsynth.tracking.registry import register_model
from partsynth.tracking.store import MODEL, client, model_name


def train(root: Path) -> str:
    (root / "model").mkdir(exist_ok=True)
    (root / "model/config.json").write_text("{}")
    with start(root) as run:
        run.log_model(root / "model")
    return run.run_id


def test_each_sees_its_own_runs_and_champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "old"  # outside git, as runs from before projects were told apart
    old.mkdir()
    roots = [tmp_path / "one", tmp_path / "two"]
    for root in roots:
        root.mkdir()
        command(root, "git", "init", "-q")
        command(root, "git", "commit", "-q", "--allow-empty", "-m", root.name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/shared/mlflow.db")
    before = train(old)
    register_model(old, before, "# Card")
    assert get_run(roots[0], "champion").run_id == before and get_run(roots[0], "real-seed1").run_id == before
    runs = [train(root) for root in roots]
    for root, run_id in zip(roots, runs, strict=True):
        assert run_id in {run.run_id for run in find_runs(root)}
        assert not {run.run_id for run in find_runs(root)} & (set(runs) - {run_id})
        register_model(root, run_id, "# Card")
    assert [get_run(root, "champion").run_id for root in roots] == runs
    assert [get_run(root, "real-seed1").run_id for root in roots] == runs  # the same fingerprint replaced none of them
    assert len({MODEL, *map(model_name, roots)}) == 3
    client(old).set_registered_model_alias(MODEL, "other", "1")
    with pytest.raises(UserError, match="no MLflow run"):
        get_run(roots[0], "nobody")
