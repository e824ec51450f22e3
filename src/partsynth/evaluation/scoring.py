"""OOD scores of a trained model: fitted to real training images, with the number of neighbours from validation ones."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from partsynth.config.evaluation import AUTO, Evaluate
from partsynth.core.evaluation.metrics import accuracy, auroc
from partsynth.core.evaluation.ood import Known, Score, Scorer, known, neighbours, vote
from partsynth.errors import UserError
from partsynth.evaluation.results import Choice
from partsynth.seams import SCORES

if TYPE_CHECKING:
    from partsynth.core.contrastive.encoder import Classifier


@dataclass(frozen=True)
class Embedded:
    """One part seen by one model, in float64."""

    features: np.ndarray  # (n, D)
    logits: np.ndarray  # (n, C)


Seen = Mapping[str, Embedded]  # part -> what a model makes of it


def embed(model: Classifier, images: Mapping[str, np.ndarray], batch_size: int) -> dict[str, Embedded]:
    """Each part's uint8 images (n, size, size, 3) as the model sees them."""
    from partsynth.core.contrastive import encoder

    found = {}
    for part, pixels in images.items():
        features, logits = encoder.embed(model, pixels, batch_size)
        found[part] = Embedded(features.double().numpy(), logits.double().numpy())
    return found


def fit(
    params: Evaluate,
    model: Classifier,
    seen: Seen,
    train_labels: np.ndarray,
    val_labels: np.ndarray,
    classes: Sequence[str] = (),
) -> tuple[Known, Choice]:
    """What scores are fitted to, and how its number of neighbours was chosen.

    Parameters
    ----------
    seen : at least "train" and "val", real images alone; near_val and far_val where there are OOD validation images.
    train_labels, val_labels : (n,) class indices.
    classes : names of the classes, for ``evaluate.families``.

    Raises
    ------
    UserError
        where a pattern of ``evaluate.families`` matches no class.
    """
    weight, bias = (p.detach().cpu().double().numpy() for p in (model.classifier.weight, model.classifier.bias))
    choice = choose_k(params.k, known(seen["train"].features, train_labels, weight, bias), seen, val_labels)
    fitted = known(
        seen["train"].features,
        train_labels,
        weight,
        bias,
        choice.k,
        held_out=(seen["val"].features, val_labels),
        families=families_of(params, classes) if classes else None,
    )
    return fitted, choice


def families_of(params: Evaluate, classes: Sequence[str]) -> np.ndarray:
    """(C,) the index of the first class of each class's family.

    Raises
    ------
    UserError
        where a pattern matches no class.
    """
    for pattern in params.families:
        if not fnmatch.filter(classes, pattern):
            raise UserError(f"evaluate.families: {pattern!r} matches no class; there are {', '.join(classes)}")
    named = [next((("", f) for p, f in params.families.items() if fnmatch.fnmatchcase(c, p)), (c, "")) for c in classes]
    return np.array([named.index(name) for name in named])


def told(params: Evaluate) -> list[str]:
    """The scores that are computed: the usual ones and those that the parameters name."""
    return [name for name in SCORES if SCORES[name].always or name in (params.headline_score, *params.more_scores)]


def scorers(fitted: Known, names: Iterable[str] = SCORES) -> dict[str, Scorer]:
    """The registered scores of these names, fitted."""
    members: list[Score] = [SCORES[name] for name in names]
    return {name: score.fit(fitted) for name, score in zip(names, members, strict=True)}


def choose_k(candidates: Iterable[int], fitted: Known, seen: Seen, val_labels: np.ndarray) -> Choice:
    """The k of kNN with the best mean AUROC of near and far OOD *validation* images against real validation ones.

    Where there are no OOD validation images: the k with the best kNN accuracy on val. Ties go to the smallest k.

    Parameters
    ----------
    candidates : those beyond the number of known images count as that number
    seen : at least "val"
    val_labels : (n,) class indices of the real validation images
    """
    allowed = sorted({min(k, len(fitted.bank)) for k in candidates})
    against = [part for part in ("near_val", "far_val") if part in seen]
    found = {part: neighbours(fitted, seen[part].features, allowed[-1]) for part in ["val", *against]}
    if against:
        source = f"mean AUROC of {' and '.join(against)} against val"
        pairs = {k: [(found["val"][0][:, k - 1], found[part][0][:, k - 1]) for part in against] for k in allowed}
        tried = {k: float(np.mean([auroc(*pair) for pair in pairs[k]])) for k in allowed}
    else:
        source = "kNN accuracy on val, as there are no OOD validation images"
        count = int(fitted.labels.max()) + 1
        tried = {k: accuracy(val_labels, vote(found["val"][1][:, :k], count)) for k in allowed}
    best = max(allowed, key=lambda k: (round(tried[k], 9), -k))
    rounded = {str(k): round(value, 6) for k, value in tried.items()}
    return Choice.model_validate({"k": best, "from": source, "tried": rounded})


def validation_auroc(params: Evaluate, fitted: Known, seen: Seen) -> dict[str, float]:
    """AUROC of near and far OOD validation images against real ones by the headline score: what studies look at.

    With the headline score "auto" by the one whose mean is best. Named as the metrics of test images; NaN where there
    are no such images.
    """
    names = told(params) if params.headline_score == AUTO else (params.headline_score,)
    tried = [_aurocs(scorer, seen) for scorer in scorers(fitted, names).values()]
    return max(tried, key=lambda found: np.nansum([*found.values()]))  # the first of equals


def _aurocs(scorer: Scorer, seen: Seen) -> dict[str, float]:
    found = {part: scorer(of.features, of.logits) for part, of in seen.items() if part != "train"}
    return {
        f"{kind}_ood_auroc": auroc(found["val"], found[f"{kind}_val"]) if f"{kind}_val" in found else math.nan
        for kind in ("near", "far")
    }
