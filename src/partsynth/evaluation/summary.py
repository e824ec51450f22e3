"""How setups compare: every figure, interval and sentence of the summary, from the table of predictions alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from partsynth.config.training import Evaluate
from partsynth.core.evaluation import ood as scoring
from partsynth.core.evaluation.intervals import cluster_interval, t_interval
from partsynth.core.evaluation.metrics import (
    accepted,
    accuracy,
    aupr_in,
    aupr_out,
    auroc,
    ece,
    fpr,
    macro_f1,
    placements,
)
from partsynth.store.hashing import seed_from

if TYPE_CHECKING:
    import pandas as pd
from partsynth.evaluation.results import BenchmarkSummary, Bootstrap, Difference, Interval, MetricTitle, Summary
from partsynth.evaluation.verdict import Change, Changes, verdict

STUDY_SET = "near_ood"  # the augmentations whose mean max-softmax the original study called "OOD confidence"
# (metric, what to call it, whether more is better); also the order of tables
TITLES = {
    "accuracy_test": ("accuracy, test", True),
    "accuracy_shifted": ("accuracy, shifted", True),
    "macro_f1_test": ("macro F1, test", True),
    "knn_accuracy_test": ("kNN accuracy, test", True),
    "ece_test": ("calibration error (ECE), test", False),
    "near_ood_auroc": ("near-OOD AUROC", True),
    "near_ood_aupr_in": ("near-OOD AUPR, ID positive", True),
    "near_ood_aupr_out": ("near-OOD AUPR, OOD positive", True),
    "near_ood_fpr95": ("near-OOD FPR@95", False),
    "far_ood_auroc": ("far-OOD AUROC", True),
    "far_ood_aupr_in": ("far-OOD AUPR, ID positive", True),
    "far_ood_aupr_out": ("far-OOD AUPR, OOD positive", True),
    "far_ood_fpr95": ("far-OOD FPR@95", False),
    "id_confidence": ("ID confidence (validation pictures)", True),
    "ood_confidence": ("OOD confidence (near_ood augmentations)", False),
    "confidence_gap": ("ID less OOD confidence", True),
}


def summarise(table: pd.DataFrame, params: Evaluate, changes: Changes | None, all_pairs: bool = True) -> Summary:
    """All figures from the table of predictions.

    Parameters
    ----------
    table : as ``read_predictions`` gives it; setups in the order of their first row, the baseline first. A setup may
        lack seeds, and a seed may have pictures of its own: all comparisons are made within a seed.
    changes : None = every setup against the one before it
    all_pairs : differences of all pairs of setups, or only of those in ``changes``
    """
    runs: dict[str, dict[int, dict[str, pd.DataFrame]]] = {}
    for (setup, seed, part), rows in table.groupby(["setup", "seed", "part"], sort=False):
        # sorted, so that pictures of two runs line up
        runs.setdefault(setup, {}).setdefault(int(seed), {})[part] = rows.sort_values("path", kind="stable")
    runs = {setup: dict(sorted(seeds.items())) for setup, seeds in runs.items()}
    recall = params.id_recall
    per_run = {s: {n: _figures(parts, recall) for n, parts in seeds.items()} for s, seeds in runs.items()}
    other = {s: {n: _other_scores(parts) for n, parts in seeds.items()} for s, seeds in runs.items()}

    def over_seeds(found: dict[int, dict[str, float]]) -> dict[str, Interval]:
        names = next(iter(found.values()))
        return {name: _interval([f[name] for f in found.values()], params.confidence) for name in names}

    setups = list(runs)
    if changes is None:
        changes = {pair: Change(f"{pair[0]} over {pair[1]}") for pair in zip(setups[1:], setups[:-1], strict=True)}
    pairs = [(a, b) for i, a in enumerate(setups) for b in reversed(setups[:i]) if all_pairs or (a, b) in changes]
    differences = [d for a, b in pairs for d in _differences(a, b, runs, per_run, params)]
    return Summary(
        setups={s: over_seeds(found) for s, found in per_run.items()},
        differences=differences,
        scores={s: over_seeds(found) for s, found in other.items()},
        classes={s: _per_class(seeds) for s, seeds in runs.items()},
        absent=_absent(next(iter(next(iter(runs.values())).values()))),
        seeds={s: sorted(seeds) for s, seeds in runs.items()},
        order=setups,
        metrics=_titles(per_run),
        confidence=params.confidence,
        verdict=verdict(differences, changes, params.confidence),
    )


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

    def of(rows: pd.DataFrame) -> Summary:
        there = set(rows.setup)
        found = {pair: about for pair, about in changes.items() if there.issuperset(pair)}
        return summarise(rows, params, found, all_pairs=False)

    by_shots = {int(shots): rows for shots, rows in table.groupby("shots")}
    whole = of(by_shots.pop(0))
    few = {str(shots): of(rows) for shots, rows in by_shots.items()}
    return BenchmarkSummary(**{name: getattr(whole, name) for name in whole.model_fields_set}, few_shot=few)


def _titles(per_run: dict[str, dict[int, dict[str, float]]]) -> list[MetricTitle]:
    """What to call each metric that there is, in the tables' order; names of sets make the last ones."""
    names = list(dict.fromkeys(name for seeds in per_run.values() for found in seeds.values() for name in found))
    titles = []
    for name in [*(n for n in TITLES if n in names), *(n for n in names if n not in TITLES)]:
        measure, _, generated = name.partition("_generated_")
        title, more = TITLES.get(name, (f"{measure} on generated {generated}", None))
        titles.append(MetricTitle(name=name, title=title, more_is_better=more))
    return titles


def _figures(parts: dict[str, pd.DataFrame], recall: float) -> dict[str, float]:
    """Figures of one run; what a part is missing for is left out."""
    test, found = parts["test"], {}
    found["accuracy_test"] = accuracy(test.class_name, test.predicted)
    if "shifted" in parts:
        found["accuracy_shifted"] = accuracy(parts["shifted"].class_name, parts["shifted"].predicted)
    found["macro_f1_test"] = macro_f1(test.class_name, test.predicted)
    found["knn_accuracy_test"] = accuracy(test.class_name, test.knn_predicted)
    found["ece_test"] = ece(test.confidence, test.class_name == test.predicted)
    for kind in ("near", "far"):
        if f"{kind}_test" in parts:
            pair = test.knn.to_numpy(), parts[f"{kind}_test"].knn.to_numpy()
            found[f"{kind}_ood_auroc"] = auroc(*pair)
            found[f"{kind}_ood_aupr_in"] = aupr_in(*pair)
            found[f"{kind}_ood_aupr_out"] = aupr_out(*pair)
            found[f"{kind}_ood_fpr95"] = fpr(*pair, recall)
    found["id_confidence"] = float(parts["val"].confidence.mean())
    if f"set_{STUDY_SET}" in parts:
        found["ood_confidence"] = float(parts[f"set_{STUDY_SET}"].confidence.mean())
        found["confidence_gap"] = found["id_confidence"] - found["ood_confidence"]
    for part, rows in parts.items():
        if part.startswith("set_"):
            name = part.removeprefix("set_")
            found[f"accuracy_generated_{name}"] = accuracy(rows.class_name, rows.predicted)
            found[f"confidence_generated_{name}"] = float(rows.confidence.mean())
    return found


def _other_scores(parts: dict[str, pd.DataFrame]) -> dict[str, float]:
    """AUROC of every score, named <score>/<near|far>_ood_auroc."""
    kinds = [kind for kind in ("near", "far") if f"{kind}_test" in parts]
    return {
        f"{score}/{kind}_ood_auroc": auroc(parts["test"][score], parts[f"{kind}_test"][score])
        for score in scoring.SCORES
        for kind in kinds
    }


def _interval(values: list[float], confidence: float) -> Interval:
    mean, low, high = t_interval(values, confidence)
    return Interval(mean=_round(mean), low=_rounded(low), high=_rounded(high), values=[_round(v) for v in values])


def _round(value: float) -> float:
    return round(float(value), 6)


def _rounded(value: float | None) -> float | None:
    return None if value is None else _round(value)


def _differences(a: str, b: str, runs: dict, per_run: dict, params: Evaluate) -> list[Difference]:
    """a minus b: a t interval over the seeds that both have, and a bootstrap over clusters (see ``_contrasts``)."""
    seeds = sorted(set(per_run[a]) & set(per_run[b]))
    if not seeds:
        return []
    resampled = {}
    for metric, (values, clusters, unit) in _contrasts(runs[a], runs[b], seeds, params.id_recall).items():
        low, high, count = cluster_interval(values, clusters, seed_from("bootstrap", a, b, metric), params.confidence)
        resampled[metric] = Bootstrap(low=_rounded(low), high=_rounded(high), clusters=count, of=unit)
    found = []
    for metric in per_run[a][seeds[0]]:
        interval = _interval([per_run[a][n][metric] - per_run[b][n][metric] for n in seeds], params.confidence)
        about = {"setup": a, "base": b, "metric": metric, "bootstrap": resampled.get(metric)}
        found.append(Difference(**dict(interval), **about))
    return found


def _contrasts(a: dict, b: dict, seeds: list[int], recall: float) -> dict[str, tuple[np.ndarray, Any, str]]:
    """Per seed and picture, the difference a - b, and the picture's cluster, over all seeds one after another.

    A mean over pictures, so that resampling clusters is exact: correctness for accuracy (clusters: physical
    parts), placement among the ID pictures for AUROC and acceptance for FPR (clusters: unseen variants). A cluster
    holds a part's pictures of all seeds, so that seeds pass for no further parts.
    """

    def over_seeds(kind: Any) -> np.ndarray:
        return np.concatenate([kind(a[n]) - kind(b[n]) for n in seeds])

    first, found = a[seeds[0]], {}
    for part in ("test", "shifted"):
        if part in first:
            values = over_seeds(lambda p, part=part: (p[part].class_name == p[part].predicted).to_numpy(float))
            found[f"accuracy_{part}"] = values, _all(a, seeds, part, "group"), "physical parts"
    for kind in ("near", "far"):
        part = f"{kind}_test"
        if part in first:
            variants = _all(a, seeds, part, "class_name")
            placed = over_seeds(lambda p, part=part: placements(p["test"].knn, p[part].knn))
            passed = over_seeds(lambda p, part=part: accepted(p["test"].knn, p[part].knn, recall).astype(float))
            found[f"{kind}_ood_auroc"] = placed, variants, "unseen variants"
            found[f"{kind}_ood_fpr95"] = passed, variants, "unseen variants"
    return found


def _all(runs: dict, seeds: list[int], part: str, column: str) -> np.ndarray:
    return np.concatenate([runs[n][part][column].to_numpy() for n in seeds])


def _per_class(seeds: dict[int, dict[str, pd.DataFrame]]) -> dict[str, dict[str, float]]:
    """By part: recall of each class (test, shifted), AUROC of each unseen class (near_test, far_test); seeds' means."""
    found: dict[str, dict[str, float]] = {}
    first = next(iter(seeds.values()))
    for part in ("test", "shifted"):
        for name in sorted(set(first[part].class_name)) if part in first else []:
            hits = [(p[part].predicted[p[part].class_name == name] == name).mean() for p in seeds.values()]
            found.setdefault(part, {})[name] = _round(np.mean(hits))
    for part in ("near_test", "far_test"):
        for name in sorted(set(first[part].class_name)) if part in first else []:
            values = [auroc(p["test"].knn, p[part].knn[p[part].class_name == name]) for p in seeds.values()]
            found.setdefault(part, {})[name] = _round(np.mean(values))
    return found


def _absent(parts: dict[str, Any]) -> dict[str, str]:
    reasons = {}
    if "shifted" not in parts:
        reasons["accuracy_shifted"] = (
            "the source has no pictures under shifted conditions (data/real has no shifted split)"
        )
    for kind, hint in (
        ("near", "; ood.holdout_classes keeps some of the classes out of training for this"),
        ("far", ""),
    ):
        if f"{kind}_test" not in parts:
            for metric in ("auroc", "aupr_in", "aupr_out", "fpr95"):
                reasons[f"{kind}_ood_{metric}"] = f"the source has no {kind}-OOD classes (data/ood holds none){hint}"
    if f"set_{STUDY_SET}" not in parts:
        for metric in ("ood_confidence", "confidence_gap"):
            reasons[metric] = f"there is no augmentation set named {STUDY_SET}"
    return reasons
