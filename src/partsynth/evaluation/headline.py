"""Which OOD score the headline figures have, where the parameters leave it to the validation images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from partsynth.config.evaluation import AUTO, Evaluate
from partsynth.core.evaluation.metrics import auroc, auroc_difference_variance
from partsynth.evaluation.results import HeadlineChoice
from partsynth.seams import SCORES

if TYPE_CHECKING:
    import pandas as pd

DEFAULT = "knn"


def resolve(params: Evaluate, table: pd.DataFrame, whose: str = "all models") -> tuple[Evaluate, HeadlineChoice | None]:
    """The parameters with a headline score, and how it was chosen; None where they name one themselves.

    The score with the best AUROC of near and far OOD *validation* images against real validation images, as the mean
    over those parts and all models; of equals the first of ``SCORES``. A score with a number that was itself chosen on
    these images (kNN's k) has a head start: it is taken where it leads the best one without by more than one standard
    error of the difference (Breiman et al. 1984, sec. 3.4.3: the simplest within one standard error). Where there are
    no such images, the default.

    Parameters
    ----------
    table : of predictions, see ``read_predictions``; test images in it have no say.
    whose : the predictions are, in words
    """
    if params.headline_score != AUTO:
        return params, None
    against = [part for part in ("near_val", "far_val") if (table.part == part).any()]
    scores = [score for score in SCORES if score in table]
    if not (against and (table.part == "val").any()):
        source = "the default, as there are no OOD validation images"
        return _resolved(params, DEFAULT, source, {})
    of_model = [name for name in ("setup", "shots", "draw", "seed") if name in table]
    looked_at = table[table.part.isin(["val", *against])]
    models = [dict(list(rows.groupby("part"))) for _, rows in looked_at.groupby(of_model, sort=False)]
    pairs = [(model["val"], model[part]) for model in models for part in against]
    tried = {score: float(np.mean([auroc(val[score], ood[score]) for val, ood in pairs])) for score in scores}
    best = max(tried, key=tried.__getitem__)  # the first of equals
    source = f"mean AUROC of {' and '.join(against)} against val, over {whose}"
    untuned = [score for score in scores if not SCORES[score].tuned]
    if SCORES[best].tuned and untuned:
        other = max(untuned, key=tried.__getitem__)
        error = _standard_error(best, other, pairs, len(against))
        if tried[best] - tried[other] < error:
            source += f"; {best}, with a number chosen on them, leads by less than one standard error ({error:.3f})"
            best = other
    return _resolved(params, best, source, tried)


def _resolved(params: Evaluate, score: str, source: str, tried: dict[str, float]) -> tuple[Evaluate, HeadlineChoice]:
    rounded = {name: round(value, 6) for name, value in tried.items()}
    choice = HeadlineChoice.model_validate({"score": score, "from": source, "tried": rounded})
    return params.model_copy(update={"headline_score": score}), choice


def _standard_error(one: str, other: str, pairs: list[tuple[pd.DataFrame, pd.DataFrame]], parts: int) -> float:
    """Of the difference of two scores' mean AUROC over the parts. Models see the same images, so that more of them make
    it no smaller."""
    variances = [auroc_difference_variance((val[one], ood[one]), (val[other], ood[other])) for val, ood in pairs]
    return math.sqrt(float(np.mean(variances)) / parts)
