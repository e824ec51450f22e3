"""Stores that cannot be used: one sentence, before anything was trained."""

from __future__ import annotations

import shutil
import socket
import sqlite3
from pathlib import Path

import pytest
from helpers.runs import start

from partsynth.errors import UserError
from partsynth.tracking import probe
from partsynth.tracking.store import client, require_usable, tracking_uri

KINDS = [
    ("./mlruns", "keeps no runs in plain folders"),
    ("file:///tmp/mlruns", "keeps no runs in plain folders"),
    ("mlflow.db", "keeps no runs in plain folders"),
    ("C:\\mlruns", "keeps no runs in plain folders"),
    ("ftp://me:s3cret@host/x", r"is ftp://me:\*\*\*@host/x: unknown kind of address"),
]


@pytest.mark.parametrize("uri, text", KINDS)
def test_addresses_of_no_store(uri: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for ask in (client, require_usable):
        with pytest.raises(UserError, match=text):
            ask(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_server_out_of_reach_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:s3cret@127.0.0.1:{port}")
    with pytest.raises(UserError, match=rf"http://me:\*\*\*@127.0.0.1:{port} .*does not answer"):
        require_usable(tmp_path)
    with pytest.raises(UserError, match="does not answer"), start(tmp_path):
        pass


def test_a_relative_file_is_one_file_for_all_working_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs/mlflow.db")
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    require_usable(tmp_path)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////var/mlflow.db")
    assert tracking_uri(tmp_path) == "sqlite:////var/mlflow.db"


def test_an_old_schema_names_the_command(tmp_path: Path) -> None:
    (made := tmp_path / "made").mkdir()
    client(made)
    require_usable(made)
    database = shutil.copyfile(made / "mlflow.db", tmp_path / "mlflow.db")  # MLflow keeps open stores by address
    store = sqlite3.connect(database)
    store.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    store.commit()
    store.close()
    with pytest.raises(UserError, match=r"made by another MLflow: make a copy of it, then `mlflow db upgrade sqlite"):
        require_usable(tmp_path)


def test_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("rubbish " * 500)
    for ask in (require_usable, client):
        with pytest.raises(UserError, match=r"mlflow\.db cannot be (used|written to|read)"):
            ask(tmp_path)


def test_messages_hide_passwords() -> None:
    told = probe.sentence("postgresql://me:s3cret@h/x", ValueError("\ncannot reach postgresql://me:s3cret@h/x\nat all"))
    assert told.count("***") == 2 and "s3cret" not in told
