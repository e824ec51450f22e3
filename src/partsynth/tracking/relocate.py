"""A moved or copied project's store points to its own artifacts again."""

from __future__ import annotations

import contextlib
import functools
import itertools
import sqlite3
from pathlib import Path

from partsynth.errors import UserError

ADDRESSES = (  # table and column of MLflow's SQLite store where artifacts' addresses stand
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


@functools.cache
def follow(database: Path, artifacts: Path) -> None:
    """Make a moved or copied project's store point to its own artifacts: MLflow keeps their absolute addresses.

    Raises
    ------
    UserError
        where the store cannot be changed.
    """
    if not artifacts.is_dir():
        return
    here = artifacts.as_uri()
    try:
        with contextlib.closing(sqlite3.connect(database)) as store, store:
            known = [address for (address,) in store.execute("SELECT artifact_location FROM experiments") if address]
            folders = {address.rpartition("/")[0] for address in known}
            there = sorted(
                f for f in folders if f.startswith("file:") and f.endswith(f"/{artifacts.name}") and f != here
            )
            for old, (table, column) in itertools.product(there, ADDRESSES):
                store.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (here, len(old) + 1, len(old) + 1, f"{old}/"),
                )
    except sqlite3.Error as error:
        raise UserError(f"{database} names a former folder of its project and cannot be changed: {error}") from None
