"""Which OOD score the headline figures have, where the parameters leave it to the validation images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from partsynth.config.evaluation import AUTO, Evaluate
from partsynth.core.evaluation.metrics import auroc
from partsynth.evaluation.results import HeadlineChoice
from partsynth.seams import SCORES

if TYPE_CHECKING:
    import pandas as pd

DEFAULT = "knn"


def resolve(params: Evaluate, table: pd.DataFrame) -> tuple[Evaluate, HeadlineChoice | None]:
    """The parameters with a headline score, and how it was chosen; None where they name one themselves.

    The score with the best AUROC of near and far OOD *validation* images against real validation images, as the mean
    over those parts and all models; of equals the first of ``SCORES``. Where there are no such images, the default.

    Parameters
    ----------
    table : of predictions, see ``read_predictions``; test images in it have no say.
    """
    if params.headline_score != AUTO:
        return params, None
    against = [part for part in ("near_val", "far_val") if (table.part == part).any()]
    scores = [score for score in SCORES if score in table]
    tried: dict[str, float] = {}
    if against and (table.part == "val").any():
        source = f"mean AUROC of {' and '.join(against)} against val, over all models"
        for score in scores:
            values = [
                auroc(rows[rows.part == "val"][score], rows[rows.part == part][score])
                for _, rows in table[table.part.isin(["val", *against])].groupby(["setup", "seed"], sort=False)
                for part in against
            ]
            tried[score] = round(float(np.mean(values)), 6)
        best = max(tried, key=tried.__getitem__)  # the first of equals
    else:
        source = "the default, as there are no OOD validation images"
        best = DEFAULT
    choice = HeadlineChoice.model_validate({"score": best, "from": source, "tried": tried})
    return params.model_copy(update={"headline_score": best}), choice
