"""The only module that knows what MLflow keeps to itself: the tables of its SQLite file.

Two things cannot be had from its interface:

- a moved or copied project. MLflow writes the absolute addresses of artifacts into its tables and has no call to change
  them; without that, a copy would read and overwrite the files of its original.
- a look that costs little. Importing MLflow and opening its store take 2 s of CPU (any import from it imports all of
  it, pandas, FastAPI and SQLAlchemy too), more than all else that a command like ``partsynth audit`` does. The tables
  are read in the form that the installed series has (pyproject.toml holds MLflow to it); a file of any other form is
  left to the client.

Nothing but addresses is ever written.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from collections import defaultdict
from pathlib import Path
from typing import Any

from partsynth.errors import UserError
from partsynth.tracking.inputs import CONTEXT, DataInput
from partsynth.tracking.views import ModelVersion, RunView, Wanted, data_input

REVISIONS = {"dc11669786a5"}  # forms of the tables that are read here: MLflow 3.17
ADDRESSES = (  # table and column where artifacts' addresses stand
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
PATIENCE = 60.0  # seconds to wait for another process that writes


def follow(database: Path, artifacts: Path) -> None:
    """Make a moved or copied project's store point to its own artifacts, all or nothing.

    Raises
    ------
    UserError
        where the store names a former folder and cannot be changed.
    """
    if not artifacts.is_dir():
        return
    here = artifacts.as_uri()
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=PATIENCE)) as store, store:
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


def reader(database: Path) -> SqliteReader | None:
    """None where the tables have another form than is known here."""
    store = SqliteReader(database)
    try:
        revisions = {revision for (revision,) in store.rows("SELECT version_num FROM alembic_version")}
    except UserError:
        return None
    return store if revisions and revisions <= REVISIONS else None


class SqliteReader:
    """A look into the file, without MLflow (see ``views.Reader``)."""

    def __init__(self, database: Path) -> None:
        self.database = database

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """
        Raises
        ------
        UserError
            where the file cannot be read.
        """
        try:
            address = f"{self.database.absolute().as_uri()}?mode=ro"
            with contextlib.closing(sqlite3.connect(address, uri=True, timeout=PATIENCE)) as store:
                return store.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise UserError(f"{self.database} cannot be read: {error}") from None

    def runs(self, wanted: Wanted) -> list[RunView]:
        where: list[str] = ["r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active'"]
        values: list[str] = []
        for key, value in wanted.tags.items():
            where.append("EXISTS (SELECT 1 FROM tags t WHERE t.run_uuid = r.run_uuid AND t.key = ? AND t.value = ?)")
            values += [key, value]
        if wanted.digest is not None:
            where.append(
                "EXISTS (SELECT 1 FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id WHERE "
                "i.destination_type = 'RUN' AND i.destination_id = r.run_uuid AND d.digest = ?)"
            )
            values.append(wanted.digest)
        for column, name in (("r.name", wanted.name), ("e.name", wanted.experiment)):
            if name is not None:
                where.append(f"{column} = ?")
                values.append(name)
        return self._views(" AND ".join(where), *values)

    def run(self, run_id: str) -> RunView | None:
        return next(iter(self._views("r.run_uuid = ?", run_id)), None)

    def aliased(self, model: str, alias: str) -> str | None:
        if alias.lower() == "latest":
            last = "SELECT run_id FROM model_versions WHERE name = ? AND current_stage != 'Deleted_Internal'"
            return next((run_id for (run_id,) in self.rows(f"{last} ORDER BY version DESC", model)), None)
        named = (
            "SELECT v.run_id FROM registered_model_aliases a JOIN model_versions v ON v.name = a.name "
            "AND v.version = a.version WHERE a.name = ? AND a.alias = ?"
        )
        return next((run_id for (run_id,) in self.rows(named, model, alias)), None)

    def versions(self) -> list[ModelVersion]:
        aliases: dict[tuple[str, int], list[str]] = defaultdict(list)
        for model, version, alias in self.rows("SELECT name, version, alias FROM registered_model_aliases"):
            aliases[model, version].append(alias)
        found = self.rows(
            "SELECT name, version, run_id FROM model_versions WHERE current_stage != 'Deleted_Internal' "
            "ORDER BY name, last_updated_time DESC, version DESC"
        )
        return [ModelVersion(m, str(v), run_id or "", tuple(sorted(aliases[m, v]))) for m, v, run_id in found]

    def _views(self, where: str, *values: Any) -> list[RunView]:
        runs = self.rows(
            "SELECT r.run_uuid, r.name, r.status, e.name, r.start_time, r.end_time, r.artifact_uri, r.lifecycle_stage "
            f"FROM runs r JOIN experiments e USING (experiment_id) WHERE {where} ORDER BY r.start_time, r.run_uuid",
            *values,
        )
        ids = json.dumps([run[0] for run in runs])

        def listed(query: str, order: str = "rowid") -> dict[str, list[tuple[Any, ...]]]:
            """Rows of the runs by run, as they came; the query begins with the run's id and ends with it."""
            found: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
            for run_id, *rest in self.rows(f"{query} IN (SELECT value FROM json_each(?)) ORDER BY {order}", ids):
                found[run_id].append(tuple(rest))
            return found

        tags = listed("SELECT run_uuid, key, value FROM tags WHERE run_uuid")
        params = listed("SELECT run_uuid, key, value FROM params WHERE run_uuid")
        metrics = listed("SELECT run_uuid, key, value FROM latest_metrics WHERE NOT is_nan AND run_uuid")
        inputs = listed(
            "SELECT i.destination_id, d.name, d.digest, d.dataset_source_type, d.dataset_source, coalesce(t.value, '') "
            "FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id "
            f"LEFT JOIN input_tags t ON t.input_uuid = i.input_uuid AND t.name = '{CONTEXT}' "
            "WHERE i.source_type = 'DATASET' AND i.destination_type = 'RUN' AND i.destination_id",
            "d.name",
        )

        def sets(run_id: str) -> tuple[DataInput, ...]:
            return tuple(sorted((data_input(*row) for row in inputs[run_id]), key=lambda item: item.path))

        return [
            RunView(
                run_id=run_id,
                name=name,
                status=status,
                deleted=stage == "deleted",
                experiment=experiment,
                start_time=start,
                end_time=end,
                artifact_uri=address,
                tags=dict(tags[run_id]),
                params=dict(params[run_id]),
                metrics=dict(metrics[run_id]),
                inputs=sets(run_id),
            )
            for run_id, name, status, experiment, start, end, address, stage in runs
        ]
