"""Section study: what a hyperparameter study searches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from partsynth.config.base import Count, Fraction, Positive, Section, Seed


class StudySpace(Section):
    """Ranges that a study searches; ends included; null keeps the value of ``train`` (or ``select``)."""

    temperature: tuple[Positive, Positive] | None = (0.03, 0.5)
    """Of the SupCon loss; drawn on a logarithmic scale."""
    learning_rate: tuple[Positive, Positive] | None = (2e-3, 5e-2)
    """Of Muon; drawn on a logarithmic scale."""
    synthetic_share: tuple[Fraction, Fraction] | None = (0.0, 0.9)
    """Where the setup has synthetic positives."""
    negatives_per_anchor: tuple[Fraction, Fraction] | None = (0.0, 1.0)
    """Where the setup has negatives."""
    negative_weight: tuple[Positive, Positive] | None = (0.1, 4.0)
    """Lambda, where the setup has negatives; drawn on a logarithmic scale."""
    band: tuple[Fraction, Fraction] | None = (0.5, 1.0)
    """Both limits of the negatives' band lie in it; where the setup's rule is band or nobody."""

    @field_validator("*")
    @classmethod
    def _rising(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError(f"the lower end {value[0]} is not below the upper end {value[1]}")
        return value


class Study(Section):
    """Optuna over temperature, learning rate, mix ratios, lambda and the negatives' band."""

    name: str = "partsynth"
    """Name in the storage and in MLflow; a new name begins a new study."""
    setup: str = "real_id_negatives"
    """Entry of select that is searched."""
    mode: Literal["constrained", "pareto"] = "constrained"
    """Constrained: most validation accuracy within the limits below; pareto: accuracy against near-OOD AUROC."""
    trials: Count = 20
    """Complete trials wanted; pruned and failed ones come on top."""
    min_ood_auroc: Fraction = 0.5
    """Mode constrained: near-OOD AUROC on validation images at least this."""
    max_drift: Fraction = 1.0
    """Mode constrained: mean drift percentile of a step's anchors (a real image's is 0) at most this."""
    storage: str = ".work/study.journal"
    """A journal file, or an Optuna RDB URL (postgresql://...)."""
    seed: Seed = 0
    """Of the sampler and the trainings."""
    retrain: Annotated[int, Field(ge=0)] = 3
    """The best trials that are trained again on new seeds, once the study has its trials; 0 = none. The best of many
    figures is too good by chance: what is found then is what the parameters are worth, and `study apply` goes by it."""
    retrain_seeds: Count = 2
    """New seeds for each of them."""
    heartbeat: Count = 15
    """Seconds between signs of life on an RDB; a trial silent for three of them is given to another worker."""
    space: StudySpace = StudySpace()

    """Ranges."""
