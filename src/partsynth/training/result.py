"""What a training gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from partsynth.core.contrastive import encoder as encoders
from partsynth.errors import UserError

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Measurement:
    """One row of history.csv: the state after ``step`` optimiser steps; loss and variance are means since the last."""

    step: int
    loss: float
    learning_rate: float
    feature_variance: float
    val_accuracy_knn: float  # 1-nearest real training picture by cosine; nan without validation pictures


@dataclass(frozen=True)
class Fitted:
    model: encoders.Classifier
    history: list[Measurement]
    metrics: dict[str, float]
    collapsed: str | None


class NonFinite(UserError):
    """The loss is no number any more."""
