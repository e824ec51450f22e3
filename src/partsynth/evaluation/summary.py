"""How setups compare: every figure, interval and sentence of the summary, from the table of predictions alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from partsynth.config.evaluation import Evaluate
from partsynth.core.evaluation.intervals import Estimate, t_interval
from partsynth.core.evaluation.metrics import auroc
from partsynth.evaluation.crossed import Runs, estimate
from partsynth.evaluation.headline import resolve
from partsynth.evaluation.metrics import Metric, Run, generated, metrics
from partsynth.evaluation.results import BenchmarkSummary, Clusters, Difference, Ends, Interval, MetricTitle, Summary
from partsynth.evaluation.verdict import Change, Changes, verdict
from partsynth.seams import METRICS, SCORES

if TYPE_CHECKING:
    import pandas as pd

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
    setups, first = list(runs), next(iter(next(iter(runs.values())).values()))[0]
    rows = [*metrics(), *generated(first.parts)]
    present = [metric for metric in rows if metric.missing(first) is None]
    aurocs = [METRICS[f"{kind}_ood_auroc"] for kind in KINDS if f"{kind}_test" in first.parts]
    figures = {s: {n: {m.name: _mean(m, each) for m in present} for n, each in of.items()} for s, of in runs.items()}

    def crossed(metric: Metric, of: Runs, values: list[float]) -> Interval:
        found, over = estimate(metric, values, [of], params.confidence)
        return _interval(found.within(metric.least, 1.0), over, values)

    def by_score(setup: str) -> dict[str, Interval]:
        """AUROC of every OOD score that the predictions have, named <score>/<near|far>_ood_auroc."""
        found = {}
        for score, metric in ((s, m) for s in SCORES if s in first["test"] for m in aurocs):
            of = {n: [replace(run, score=score) for run in each] for n, each in runs[setup].items()}
            found[f"{score}/{metric.name}"] = crossed(metric, of, [_mean(metric, each) for each in of.values()])
        return found

    if changes is None:
        changes = {pair: Change(f"{pair[0]} over {pair[1]}") for pair in zip(setups[1:], setups[:-1], strict=True)}
    pairs = [(a, b) for i, a in enumerate(setups) for b in reversed(setups[:i]) if all_pairs or (a, b) in changes]
    differences = [
        difference
        for a, b in pairs
        for difference in _differences((a, b), (runs[a], runs[b]), (figures[a], figures[b]), present, params)
    ]
    summary = Summary(
        setups={
            s: {m.name: crossed(m, runs[s], [f[m.name] for f in figures[s].values()]) for m in present} for s in setups
        },
        differences=differences,
        scores={s: by_score(s) for s in setups},
        classes={s: _per_class(of) for s, of in runs.items()},
        absent={m.name: why for m in rows if (why := m.missing(first))} | _absent_scores(first),
        seeds={s: sorted(seeds) for s, seeds in runs.items()},
        order=setups,
        metrics=[
            MetricTitle(name=m.name, title=m.called(m.title, first), more_is_better=m.more_is_better) for m in present
        ],
        confidence=params.confidence,
        headline_score=params.headline_score,
        verdict=verdict(differences, changes, params.confidence, lambda metric, words: metric.called(words, first)),
    )
    return summary.model_copy(update={"headline_choice": choice}) if choice else summary


def summarise_replicates(
    table: pd.DataFrame, params: Evaluate, changes: Changes | None = None, main: Collection[str] | None = None
) -> BenchmarkSummary:
    """Figures of a benchmark: of the replicates with all training images, and in ``few_shot`` by shots of the others.

    Parameters
    ----------
    table : with more columns: shots (0 = all images), against (the setups that the row's is compared with, separated by
        semicolons) and, where a replicate trained a setup from several seeds, draw (the replicate's own)
    changes : as in ``summarise``; None = the pairs that the table names
    main : setups whose whole replicates choose the headline score, so that their figures are the same whatever else ran
        (controls, fewer shots); None = all
    """
    if changes is None:
        named = table[["setup", "against"]].drop_duplicates().itertuples(index=False)
        pairs = [(setup, base) for setup, against in named for base in filter(None, against.split(";"))]
        changes = {(setup, base): Change(f"{setup} over {base}") for setup, base in pairs}

    # once, so that all setups and shots tell of the same score
    whole_ones = table[table.shots == 0]
    if main is None:
        params, choice = resolve(params, whole_ones, "all models with all training images")
    else:
        params, choice = resolve(params, whole_ones[whole_ones.setup.isin(list(main))], "the main setups' models")

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


def _runs(table: pd.DataFrame, params: Evaluate) -> dict[str, dict[int, list[Run]]]:
    """Setup -> seed, or draw -> its runs; images sorted, so that those of two runs line up."""
    parts: dict[str, dict[int, dict[int, dict[str, pd.DataFrame]]]] = {}
    table = table if "draw" in table else table.assign(draw=table.seed)
    for key, rows in table.groupby(["setup", "draw", "seed", "part"], sort=False):
        setup, draw, seed, part = map(str, cast("tuple[str, int, int, str]", key))
        of_draw = parts.setdefault(setup, {}).setdefault(int(draw), {})
        of_draw.setdefault(int(seed), {})[part] = rows.sort_values("path", kind="stable")
    return {
        setup: {
            draw: [
                Run(found, params.headline_score, params.id_recall, params.accuracy == "classes")
                for _, found in sorted(seeds.items())
            ]
            for draw, seeds in sorted(draws.items())
        }
        for setup, draws in parts.items()
    }


def _mean(metric: Metric, runs: Sequence[Run]) -> float:
    return float(np.mean([metric.compute(run) for run in runs]))


def _absent_scores(run: Run) -> dict[str, str]:
    """Usual scores that the predictions do not have, named as in ``_scores``."""
    return {
        f"{score}/{kind}_ood_auroc": f"the predictions have no column {score}"
        for score in SCORES
        if SCORES[score].always and score not in run["test"]
        for kind in KINDS
        if f"{kind}_test" in run.parts
    }


def _interval(found: Estimate, over: list[Clusters], values: list[float]) -> Interval:
    interval = Interval(
        mean=_round(found.mean), low=_rounded(found.low), high=_rounded(found.high), values=[_round(v) for v in values]
    )
    return interval.model_copy(update={"clusters": over}) if over else interval


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
    """The first setup minus the second, in every metric, over the seeds that both have: the interval over seeds crossed
    with clusters of images where the metric is a mean over images, and that over seeds alone."""
    seeds, found = sorted(set(runs[0]) & set(runs[1])), []
    for metric in present if seeds else []:
        values = [figures[0][n][metric.name] - figures[1][n][metric.name] for n in seeds]
        crossed, over = estimate(metric, values, runs, params.confidence)
        alone = t_interval(values, params.confidence)
        more: dict[str, Any] = {} if crossed.p is None else {"p": float(f"{crossed.p:.6g}")}
        if alone.low is not None and alone.high is not None:
            more["seeds_alone"] = Ends(low=_round(alone.low), high=_round(alone.high))
        interval = _interval(crossed, over, values)
        told = {name: getattr(interval, name) for name in interval.model_fields_set}
        found.append(Difference(setup=pair[0], base=pair[1], metric=metric.name, **told, **more))
    return found


def _per_class(runs: Runs) -> dict[str, dict[str, float]]:
    """By part: recall of each class (test, shifted), AUROC of each unseen class (near_test, far_test); seeds' means."""
    found: dict[str, dict[str, float]] = {}
    every = [run for each in runs.values() for run in each]
    first = every[0]
    for part in ("test", "shifted"):
        for name in sorted(set(first[part].class_name)) if part in first.parts else []:
            hits = [run.correct(part)[run[part].class_name == name].mean() for run in every]
            found.setdefault(part, {})[name] = _round(float(np.mean(hits)))
    for part in ("near_test", "far_test"):
        there = part in first.parts and first.score in first[part]
        for name in sorted(set(first[part].class_name)) if there else []:
            values = [auroc(run.scores("test"), run.scores(part)[run[part].class_name == name]) for run in every]
            found.setdefault(part, {})[name] = _round(float(np.mean(values)))
    return found
