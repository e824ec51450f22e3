"""The best trials trained again on new seeds: the best of many figures is too good by chance.

A figure of validation images has an error, and a search reports the largest of many. How much of it was luck shows
when the same parameters are trained on seeds that the search did not use (20 equal trials, 144 images: 4 to 8 points).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from partsynth.config.study import Study
from partsynth.records.study import Retrained
from partsynth.store.hashing import seed_from

FIGURES = ("val_accuracy", "near_ood_auroc")


def new_seeds(settings: Study) -> list[int]:
    """Seeds of the second trainings; none is the search's own."""
    return [seed_from("retrain", settings.seed, number) % 2**31 for number in range(settings.retrain_seeds)]


def keeping(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials that keep the limits."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [t for t in complete if all(value <= 0 for value in t.constraints.values())]


def answers(study: optuna.Study, settings: Study) -> list[FrozenTrial]:
    """The trials that an answer may be taken from: those that keep the limits; of a front those that keep the
    constrained mode's limit, where there are any. The best first: the most accurate, of equals that of the higher
    second value, then the first."""
    found = keeping(study)
    if len(study.directions) > 1:
        front = study.best_trials
        found = [t for t in front if t.values[1] >= settings.min_ood_auroc] or front
    return sorted(found, key=lambda t: (-t.values[0], -t.values[-1], t.number))


def finalists(study: optuna.Study, settings: Study) -> list[FrozenTrial]:
    """The trials that are trained again; none while the study lacks trials. Of equal parameters the first alone."""
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < settings.trials:
        return []
    found: list[FrozenTrial] = []
    for trial in answers(study, settings):
        if all(trial.params != other.params for other in found):
            found.append(trial)
    return found[: settings.retrain]


def open_jobs(study: optuna.Study, settings: Study, worker: int) -> Iterator[tuple[FrozenTrial, int]]:
    """The second trainings that nobody has done yet, each a trial and a seed; asked anew after each."""
    done: set[str] = set()
    while True:
        attributes = study.user_attrs
        wanted = [(t, s) for t in finalists(study, settings) for s in new_seeds(settings)]
        left = [job for job in wanted if key(*job) not in attributes and key(*job) not in done]
        if not left:
            return
        trial, seed = left[worker % len(left)]  # each worker begins elsewhere; two that do the same one find the same
        done.add(key(trial, seed))
        yield trial, seed


def key(trial: FrozenTrial, seed: int) -> str:
    """Of the study's attribute that holds the figures."""
    return f"retrained:{trial.number}:{seed}"


def retrained(study: optuna.Study, settings: Study, attributes: dict[str, Any]) -> dict[int, Retrained]:
    """Number of a trial -> its means over the new seeds; of those alone that have been trained with all of them."""
    found = {}
    for trial in finalists(study, settings):
        figures = [attributes.get(key(trial, seed)) for seed in new_seeds(settings)]
        whole = [one for one in figures if one is not None]
        if len(whole) == len(figures):
            near = [one["near_ood_auroc"] for one in whole if one.get("near_ood_auroc") is not None]
            found[trial.number] = Retrained(
                seeds=new_seeds(settings),
                val_accuracy=_mean([one["val_accuracy"] for one in whole]),
                **({"near_ood_auroc": _mean(near)} if len(near) == len(whole) else {}),
            )
    return found


def choice(study: optuna.Study, settings: Study, found: dict[int, Retrained]) -> int | None:
    """The most accurate of the retrained trials that keep the near-OOD limit still, or of all where none does; None
    until all the best have been trained again."""
    numbers = [trial.number for trial in finalists(study, settings)]
    if not numbers or found.keys() != set(numbers):
        return None
    near = {number: found[number].near_ood_auroc for number in numbers}
    kept = [n for n in numbers if near[n] is None or near[n] >= settings.min_ood_auroc] or numbers  # type: ignore[operator]
    return max(kept, key=lambda n: (found[n].val_accuracy, near[n] or 0.0, -n))


def plain(figures: dict[str, float]) -> dict[str, float | None]:
    """What is kept of a second training."""
    return {name: None if math.isnan(figures[name]) else figures[name] for name in FIGURES}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
