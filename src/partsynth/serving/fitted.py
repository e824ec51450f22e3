"""A trained model with what it decides by: OOD score, temperature, thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from partsynth.config.evaluation import Evaluate
from partsynth.core.contrastive.encoder import Classifier
from partsynth.core.evaluation.ood import softmax
from partsynth.evaluation.results import Choice
from partsynth.evaluation.scoring import Seen, fit, scorers
from partsynth.records.rows import ImageRecord
from partsynth.serving.network import Deployed
from partsynth.serving.thresholds import Sets, Unknown, fit_sets, fit_temperature, fit_unknown


@dataclass(frozen=True)
class Fitted:
    """A model with all that it decides by."""

    network: Deployed
    score: str  # the OOD score
    choice: Choice
    temperature: float
    unknown: Unknown
    sets: Sets


def fit_all(
    rate: float,
    coverage: float,
    params: Evaluate,
    model: Classifier,
    seen: Seen,
    parts: Mapping[str, Sequence[ImageRecord]],
    classes: list[str],
) -> Fitted:
    """As the evaluation does, then thresholds on validation images of known parts.

    Parameters
    ----------
    rate : of false rejects.
    coverage : of prediction sets.
    seen : train and val at least.
    classes : in the order of the logits.
    """
    labels = {part: np.array([classes.index(row.class_name) for row in parts[part]]) for part in ("train", "val")}
    known, choice = fit(params, model, seen, labels["train"], labels["val"], classes)
    name, val = params.headline_score, seen["val"]
    scores = scorers(known, [name])[name](val.features, val.logits)
    temperature = fit_temperature(val.logits, labels["val"])
    groups = [row.origin_group for row in parts["val"]]
    unknown = fit_unknown(scores, groups, rate, params.confidence)
    sets = fit_sets(softmax(val.logits / temperature), labels["val"], coverage, params.confidence)
    network = Deployed(model, known, name, temperature, unknown.threshold, sets.least).eval()
    return Fitted(network, name, choice, temperature, unknown, sets)
