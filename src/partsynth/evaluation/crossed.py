"""A metric's interval over seeds and, at the same time, over the parts (or unseen variants) that were photographed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from partsynth.core.evaluation.intervals import Estimate, Side, crossed_interval
from partsynth.evaluation.metrics import Metric, PerImage, Run
from partsynth.evaluation.results import Clusters

# seed -> runs of one setup: one, or several initialisations on the same images, whose mean is told
Runs = Mapping[int, Sequence[Run]]
FEW = 5  # unseen variants; below it nothing can be said of other variants, and their parts are told


def estimate(
    metric: Metric, values: Sequence[float], runs: Sequence[Runs], confidence: float
) -> tuple[Estimate, list[Clusters]]:
    """Mean and interval of a metric, or of the difference in it; and what the interval is over beside seeds: the
    clusters of each side that has at least two.

    Parameters
    ----------
    values : of each seed that all ``runs`` have, ascending
    runs : of one setup, or of two whose difference (first minus second) it is; images of a seed line up
    """
    sides = [_side(about, runs) for about in metric.per_image]
    over = [Clusters(count=side.count, of=words) for side, words in sides if side.count > 1]
    return crossed_interval(values, [side for side, _ in sides], confidence), over


def contrasts(about: PerImage, runs: Sequence[Runs]) -> np.ndarray:
    """Per seed and image the value, or the first setup's minus the second's; all common seeds one after another."""
    values = [_mean(about, first) for first in _common(runs, 0)]
    if len(runs) > 1:
        values = [a - _mean(about, second) for a, second in zip(values, _common(runs, 1), strict=True)]
    return np.concatenate(values)


def _mean(about: PerImage, runs: Sequence[Run]) -> np.ndarray:
    """(n,) of each image, over the initialisations."""
    return np.mean([about.values(run) for run in runs], axis=0)


def _side(about: PerImage, runs: Sequence[Runs]) -> tuple[Side, str]:
    """The side, and what its clusters are in words."""
    column, words = _column(about, runs)
    common = [first for first, *_ in _common(runs, 0)]  # initialisations have the same images
    sizes = [len(run[about.part]) for run in common]

    def joined(of: Callable[[Run], np.ndarray]) -> np.ndarray:
        return np.concatenate([of(run) for run in common])

    def weights(run: Run) -> np.ndarray:
        count = len(run[about.part])
        return run.weights(about.part) if about.weighted else np.full(count, 1 / count)

    side = Side(
        runs=np.repeat(np.arange(len(common)), sizes),
        clusters=joined(lambda run: run[about.part][column].to_numpy(str)),
        values=contrasts(about, runs),
        weights=joined(weights),
    )
    return side, words


def _common(runs: Sequence[Runs], which: int) -> list[Sequence[Run]]:
    seeds = sorted(set.intersection(*(set(of) for of in runs)))
    return [runs[which][seed] for seed in seeds]


def _column(about: PerImage, runs: Sequence[Runs]) -> tuple[str, str]:
    """Column that says what an image belongs to, and what those are in words."""
    if not about.variants:
        return "group", "physical parts"
    names = {name for run, *_ in _common(runs, 0) for name in run[about.part].class_name.unique()}
    return ("class_name", "unseen variants") if len(names) >= FEW else ("group", "parts of unseen variants")
