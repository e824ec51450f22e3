"""How setups compare: every figure, interval and sentence of the summary, from the table of predictions alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np

from partsynth.config.evaluation import Evaluate
from partsynth.core.evaluation.intervals import cluster_interval, t_interval
from partsynth.core.evaluation.metrics import auroc
from partsynth.evaluation.headline import resolve
from partsynth.evaluation.metrics import Metric, PerImage, Run, generated, metrics
from partsynth.evaluation.results import BenchmarkSummary, Bootstrap, Difference, Interval, MetricTitle, Summary
from partsynth.evaluation.verdict import Change, Changes, verdict
from partsynth.seams import SCORES
from partsynth.store.hashing import seed_from

if TYPE_CHECKING:
    import pandas as pd

Runs = Mapping[int, Run]  # seed -> run of one setup
Figures = Mapping[str, float]  # metric -> value of one run
KINDS = ("near", "far")


def summarise(table: pd.DataFrame, params: Evaluate, changes: Changes | None, all_pairs: bool = True) -> Summary:
    """All figures from the table of predictions.

    Parameters
    ----------
    table : as ``read_predictions`` gives it; setups in the order of their first row, the baseline first. A setup may
        lack seeds, and a seed may have images of its own: all comparisons are made within a seed.
    changes : None = every setup against the one before it
    all_pairs : differences of all pairs of setups, or only of those in ``changes``
    """
    params, choice = resolve(params, table)
    runs = _runs(table, params)
    setups, first = list(runs), next(iter(next(iter(runs.values())).values()))
    rows = [*metrics(), *generated(first.parts)]
    present = [metric for metric in rows if metric.missing(first) is None]
    figures = {s: {n: {m.name: m.compute(run) for m in present} for n, run in of.items()} for s, of in runs.items()}
    scores = {s: {n: _scores(run) for n, run in of.items()} for s, of in runs.items()}

    def over_seeds(found: Mapping[int, Figures]) -> dict[str, Interval]:
        names = next(iter(found.values()))
        return {name: _interval([f[name] for f in found.values()], params.confidence) for name in names}

    if changes is None:
        changes = {pair: Change(f"{pair[0]} over {pair[1]}") for pair in zip(setups[1:], setups[:-1], strict=True)}
    pairs = [(a, b) for i, a in enumerate(setups) for b in reversed(setups[:i]) if all_pairs or (a, b) in changes]
    differences = [
        difference
        for a, b in pairs
        for difference in _differences((a, b), (runs[a], runs[b]), (figures[a], figures[b]), present, params)
    ]
    summary = Summary(
        setups={s: over_seeds(found) for s, found in figures.items()},
        differences=differences,
        scores={s: over_seeds(found) for s, found in scores.items()},
        classes={s: _per_class(of) for s, of in runs.items()},
        absent={m.name: why for m in rows if (why := m.missing(first))} | _absent_scores(first),
        seeds={s: sorted(seeds) for s, seeds in runs.items()},
        order=setups,
        metrics=[MetricTitle(name=m.name, title=m.title, more_is_better=m.more_is_better) for m in present],
        confidence=params.confidence,
        headline_score=params.headline_score,
        verdict=verdict(differences, changes, params.confidence),
    )
    return summary.model_copy(update={"headline_choice": choice}) if choice else summary


def summarise_replicates(table: pd.DataFrame, params: Evaluate, changes: Changes | None = None) -> BenchmarkSummary:
    """Figures of a benchmark: of the replicates with all training images, and in ``few_shot`` by shots of the others.

    Parameters
    ----------
    table : with two more columns: shots (0 = all images) and against (the setups that the row's is compared with,
        separated by semicolons)
    changes : as in ``summarise``; None = the pairs that the table names
    """
    if changes is None:
        named = table[["setup", "against"]].drop_duplicates().itertuples(index=False)
        pairs = [(setup, base) for setup, against in named for base in filter(None, against.split(";"))]
        changes = {(setup, base): Change(f"{setup} over {base}") for setup, base in pairs}

    params, choice = resolve(params, table)  # once, so that all shots tell of the same score

    def of(rows: pd.DataFrame) -> Summary:
        there = set(rows.setup)
        found = {pair: about for pair, about in changes.items() if there.issuperset(pair)}
        return summarise(rows, params, found, all_pairs=False)

    by_shots = {int(str(shots)): rows for shots, rows in table.groupby("shots")}
    whole = of(by_shots.pop(0))
    few = {str(shots): of(rows) for shots, rows in by_shots.items()}
    found = {name: getattr(whole, name) for name in whole.model_fields_set}
    summary = BenchmarkSummary(**found, few_shot=few)
    return summary.model_copy(update={"headline_choice": choice}) if choice else summary


def _runs(table: pd.DataFrame, params: Evaluate) -> dict[str, dict[int, Run]]:
    """Setup -> seed -> run; images sorted, so that those of two runs line up."""
    parts: dict[str, dict[int, dict[str, pd.DataFrame]]] = {}
    for key, rows in table.groupby(["setup", "seed", "part"], sort=False):
        setup, seed, part = map(str, cast("tuple[str, int, str]", key))
        of_setup = parts.setdefault(setup, {})
        of_setup.setdefault(int(seed), {})[part] = rows.sort_values("path", kind="stable")
    return {
        setup: {seed: Run(found, params.headline_score, params.id_recall) for seed, found in sorted(seeds.items())}
        for setup, seeds in parts.items()
    }


def _scores(run: Run) -> dict[str, float]:
    """AUROC of every OOD score that the predictions have, named <score>/<near|far>_ood_auroc."""
    return {
        f"{score}/{kind}_ood_auroc": auroc(run["test"][score], run[f"{kind}_test"][score])
        for score in SCORES
        if score in run["test"]
        for kind in KINDS
        if f"{kind}_test" in run.parts
    }


def _absent_scores(run: Run) -> dict[str, str]:
    """Scores that the predictions do not have, named as in ``_scores``."""
    return {
        f"{score}/{kind}_ood_auroc": f"the predictions have no column {score}"
        for score in SCORES
        if score not in run["test"]
        for kind in KINDS
        if f"{kind}_test" in run.parts
    }


def _interval(values: list[float], confidence: float) -> Interval:
    mean, low, high = t_interval(values, confidence)
    return Interval(mean=_round(mean), low=_rounded(low), high=_rounded(high), values=[_round(v) for v in values])


def _round(value: float) -> float:
    return round(float(value), 6)


def _rounded(value: float | None) -> float | None:
    return None if value is None else _round(value)


def _differences(
    pair: tuple[str, str],
    runs: tuple[Runs, Runs],
    figures: tuple[Mapping[int, Figures], Mapping[int, Figures]],
    present: list[Metric],
    params: Evaluate,
) -> list[Difference]:
    """The first setup minus the second, in every metric: a t interval over the seeds that both have, and a bootstrap
    over clusters where the metric is a mean over images."""
    seeds, found = sorted(set(runs[0]) & set(runs[1])), []
    for metric in present if seeds else []:
        values = [figures[0][n][metric.name] - figures[1][n][metric.name] for n in seeds]
        bootstrap = None
        if metric.per_image is not None:
            contrast, clusters = contrasts(metric.per_image, *runs)
            seed = seed_from("bootstrap", *pair, metric.name)
            low, high, count = cluster_interval(contrast, clusters, seed, params.confidence)
            bootstrap = Bootstrap(low=_rounded(low), high=_rounded(high), clusters=count, of=metric.per_image.clusters)
        interval = _interval(values, params.confidence)
        found.append(Difference(setup=pair[0], base=pair[1], metric=metric.name, bootstrap=bootstrap, **dict(interval)))
    return found


def contrasts(about: PerImage, a: Runs, b: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Per seed and image, the difference a - b, and the image's cluster, over all common seeds one after another.

    A cluster holds a part's images of all seeds, so that seeds do not pass for more parts.
    """
    seeds = sorted(set(a) & set(b))
    values = [about.values(a[n]) - about.values(b[n]) for n in seeds]
    clusters = [a[n][about.part][about.cluster].to_numpy() for n in seeds]
    return np.concatenate(values), np.concatenate(clusters)


def _per_class(runs: Runs) -> dict[str, dict[str, float]]:
    """By part: recall of each class (test, shifted), AUROC of each unseen class (near_test, far_test); seeds' means."""
    found: dict[str, dict[str, float]] = {}
    first = next(iter(runs.values()))
    for part in ("test", "shifted"):
        for name in sorted(set(first[part].class_name)) if part in first.parts else []:
            hits = [run.correct(part)[run[part].class_name == name].mean() for run in runs.values()]
            found.setdefault(part, {})[name] = _round(float(np.mean(hits)))
    for part in ("near_test", "far_test"):
        there = part in first.parts and first.score in first[part]
        for name in sorted(set(first[part].class_name)) if there else []:
            values = [
                auroc(run.scores("test"), run.scores(part)[run[part].class_name == name]) for run in runs.values()
            ]
            found.setdefault(part, {})[name] = _round(float(np.mean(values)))
    return found
