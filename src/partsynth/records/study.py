"""What a study found (reports/studies/<name>.json): `partsynth study show` writes it, the report reads it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Mode = Literal["constrained", "pareto"]
StateName = Literal["RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Retrained(_Model):
    """A trial's parameters trained again on seeds that the search did not use; means of validation figures."""

    seeds: list[int]
    val_accuracy: float
    near_ood_auroc: float | None = None


class TrialResult(_Model):
    """One trial; figures are of validation images, and those that it did not come to are left out of the file."""

    number: int
    state: StateName
    val_accuracy: float | None
    near_ood_auroc: float | None = None
    far_ood_auroc: float | None = None
    drift: float | None = None
    """Mean drift percentile of a step's anchors."""
    band: tuple[float, float] | None = None
    """Of a trial that made its own training table."""
    feasible: bool | None
    """Whether it keeps the limits; None where it is not complete."""
    params: dict[str, float]
    seconds: float | None
    mlflow_run_id: str | None
    retry_of: int | None
    """Number of the trial whose parameters it tries again."""
    retrained: Retrained | None = None
    """Of one of the best; its own figure is the best of many, and too good by chance."""

    @property
    def complete(self) -> bool:
        return self.state == "COMPLETE"


class Limits(_Model):
    near_ood_auroc: float
    """At least."""
    drift: float
    """At most."""


class HistoryPoint(_Model):
    """A complete trial, in the order of completion."""

    trial: int
    val_accuracy: float
    best: float | None
    """Highest accuracy so far of those that keep the limits."""


class StudyResults(_Model):
    study: str
    setup: str | None
    mode: Mode
    limits: Limits
    mlflow_run_id: str | None
    data: dict[str, str] | None
    """Path -> md5."""
    counts: dict[str, int]
    """State, in small letters -> trials."""
    best: int | None
    """By the search's own figures."""
    chosen: int | None = None
    """By those of the retrained ones, where the best have been trained again."""
    pareto: list[int]
    """Numbers of the trials at the front of accuracy and near-OOD AUROC; empty in constrained mode."""
    importance: dict[str, float]
    """Share of the accuracy's variation that each parameter explains."""
    history: list[HistoryPoint]
    trials: list[TrialResult]

    @property
    def answer(self) -> int | None:
        """The trial to take."""
        return self.best if self.chosen is None else self.chosen

    def plain(self) -> dict[str, Any]:
        """As it stands in the file."""
        return self.model_dump(mode="json", exclude_unset=True)
