"""What a training gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

from partsynth.core.contrastive.encoder import Classifier
from partsynth.errors import UserError


@dataclass(frozen=True)
class Measurement:
    """One row of history.csv: the state after ``step`` optimiser steps; loss and variance are means since the last."""

    step: int
    loss: float
    learning_rate: float
    feature_variance: float
    val_accuracy_knn: float  # 1-nearest real training image by cosine; nan without validation images
    use_loss: float = math.nan  # the term of train.negative_use, which ``loss`` leaves out; nan where it has none


@dataclass(frozen=True)
class Fitted:
    """A trained model, on the CPU, and how its training went."""

    model: Classifier
    history: list[Measurement]
    metrics: dict[str, float]
    collapsed: str | None  # what to say where the training has collapsed


class NonFinite(UserError):
    """The loss is not finite any more."""
