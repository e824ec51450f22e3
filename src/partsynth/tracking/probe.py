"""Whether the store can be used, in one sentence if not: asked before a stage spends hours and at its first use."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path

from partsynth.errors import UserError
from partsynth.store.addresses import masked
from partsynth.tracking import private

SAID = 200  # characters of what a library says
PATIENCE = 5.0  # seconds that a server has to answer
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
ALLOWED = "allowed: sqlite:////folder/mlflow.db, a server's http(s) address, or unset for the project's own mlflow.db"


def require_kind(uri: str) -> None:
    """Refuse an address under which no store of the installed MLflow can lie.

    Raises
    ------
    UserError
        for a folder (``./mlruns``, ``file:``), a file without ``sqlite:///``, or an unknown scheme.
    """
    scheme, found, _ = uri.partition(":")
    if not found or scheme == "file" or len(scheme) == 1:
        raise UserError(f"MLFLOW_TRACKING_URI is {masked(uri)}: MLflow keeps no runs in plain folders; {ALLOWED}")
    if scheme.split("+")[0] not in (*DATABASES, "http", "https", "databricks", "uc"):
        raise UserError(f"MLFLOW_TRACKING_URI is {masked(uri)}: unknown kind of address; {ALLOWED}")


def require_server(uri: str) -> None:
    """Ask a server for a sign of life: MLflow's client would try for minutes.

    Raises
    ------
    UserError
        where it does not answer.
    """
    if not uri.startswith(("http://", "https://")):
        return
    try:
        with contextlib.suppress(urllib.error.HTTPError):  # an answer, if an unfriendly one
            urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=PATIENCE).close()
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise UserError(
            f"the MLflow server {masked(uri)} (MLFLOW_TRACKING_URI) does not answer: {why}. Start it, or unset the "
            "variable for the project's own mlflow.db"
        ) from None


def require_writable(database: Path) -> None:
    """
    Raises
    ------
    UserError
        where an SQLite file, or the folder it would be made in, cannot be written to, or it is no database.
    """
    folder = next(f for f in (database.parent, *database.parent.parents) if f.exists())
    if not os.access(folder, os.W_OK) or (database.exists() and not os.access(database, os.W_OK)):
        raise UserError(f"MLflow's {database} cannot be written to: give this user permission, or name another store")
    if database.is_file():
        try:
            with contextlib.closing(sqlite3.connect(database, timeout=private.PATIENCE)) as store:
                store.execute("BEGIN IMMEDIATE")
                store.rollback()
        except sqlite3.Error as error:
            raise UserError(f"MLflow's {database} cannot be written to: {error}") from None


def lost(uri: str, error: BaseException) -> str | None:
    """Of an error while a run was written: that the server went away, or that someone deleted the run; None for all
    others. MLflow's client has tried for some minutes by then."""
    kind = type(error)
    if not kind.__module__.startswith(("mlflow.", "requests.", "urllib3.")):
        return None
    if "must be in the 'active'" in str(error):
        return (
            "the MLflow run was deleted while it was written to: run the stage again, for a new one; what was trained "
            "is kept"
        )
    if uri.startswith(("http://", "https://")):
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), kind.__name__)
        return (
            f"the MLflow server {masked(uri)} went away: {masked(first)[:SAID]}. When it answers again, run the stage "
            "again: it goes on from where it was, in a new run"
        )
    return None


def sentence(uri: str, error: Exception) -> str:
    """What a store that was reached had against being used: an old schema, a password, damage."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if "database schema" in str(error):
        return (
            f"MLflow's store {masked(uri)} was made by another MLflow: make a copy of it, then `mlflow db upgrade "
            f"{masked(uri)}` ({masked(first)})"
        )
    return f"MLflow's store {masked(uri)} cannot be used: {masked(first)}"
