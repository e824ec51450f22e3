"""What is stored of runs and registered models, whichever way it was read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal, Protocol

from partsynth.store import process
from partsynth.tracking.inputs import DataInput

Status = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
PARENT = "mlflow.parentRunId"  # MLflow's own tag of a nested run
PROJECT = "project"  # tag: whose run it is (``lineage.identity``); runs from before it have none


@dataclass(frozen=True, kw_only=True)
class RunView:
    """What is stored of one run."""

    run_id: str
    name: str
    status: Status
    experiment: str
    start_time: int  # milliseconds since 1970
    end_time: int | None
    artifact_uri: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]  # the latest value of each; those that are no number are left out
    inputs: tuple[DataInput, ...] = field(default=())  # by path
    deleted: bool = False  # in MLflow's UI; kept until `mlflow gc`

    @property
    def live(self) -> bool:
        """Neither failed nor deleted nor replaced by a rerun."""
        return not self.deleted and self.status in ("FINISHED", "RUNNING") and "superseded_by" not in self.tags

    @property
    def orphaned(self) -> bool:
        """Whether the process that held it is gone; of processes on other hosts nothing is known."""
        return process.is_dead(self.tags.get("process", ""))

    def belongs_to(self, project: str | None) -> bool:
        """Whether a project may take the run for its own: not one that names another."""
        return project is None or self.tags.get(PROJECT, project) == project


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What runs are looked for by; None stands for any."""

    tags: dict[str, str] = field(default_factory=dict)
    digest: str | None = None  # of a data set they used
    name: str | None = None
    experiment: str | None = None


@dataclass(frozen=True)
class ModelVersion:
    """A registered model."""

    model: str
    version: str
    run_id: str
    aliases: tuple[str, ...]  # sorted


class Reader(Protocol):
    """A store that can be looked into. Deleted runs and experiments are found by id alone."""

    def runs(self, wanted: Wanted) -> list[RunView]:
        """Oldest first."""

    def run(self, run_id: str) -> RunView | None: ...

    def aliased(self, model: str, alias: str) -> str | None:
        """The id of the run whose model has the alias; ``latest`` is the newest version."""

    def versions(self) -> list[ModelVersion]: ...


def data_input(name: str, digest: str, source_type: str, source: str, context: str) -> DataInput:
    """A data set from what MLflow keeps of it; of a source that is not DVC's no path is known."""
    return DataInput(name, json.loads(source).get("path", "") if source_type == "dvc" else "", digest, context)
