"""How setups compare: every figure, interval and sentence of the summary, from the table of predictions alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from partsynth.kernel import metrics
from partsynth.kernel import ood as scoring
from partsynth.params import Evaluate
from partsynth.records import SelectedRecord, seed_from

if TYPE_CHECKING:
    import pandas as pd

STUDY_SET = "near_ood"  # the augmentations whose mean max-softmax the original study called "OOD confidence"
FEW_CLUSTERS = 5  # below it a bootstrap is too narrow to be told in a sentence

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

# measures of the verdict, as sentences name them
SPOKEN = {
    "accuracy_shifted": "shifted accuracy",
    "accuracy_test": "test accuracy",
    "near_ood_auroc": "near-OOD AUROC",
    "far_ood_auroc": "far-OOD AUROC",
}


def summarise(
    table: pd.DataFrame,
    params: Evaluate,
    changes: dict[tuple[str, str], tuple[str, str]] | None,
    all_pairs: bool = True,
) -> dict[str, Any]:
    """All figures from the table of predictions.

    Parameters
    ----------
    table : as ``read_predictions`` gives it; setups in the order of their first row, the baseline first. A setup may
        lack seeds, and a seed may have pictures of its own: all comparisons are made within a seed.
    changes : (setup, the setup it is compared with) -> (what it added, "positive" | "negative" | ""); None = every
        setup against the one before it
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

    def over_seeds(found: dict[int, dict[str, float]]) -> dict[str, Any]:
        names = next(iter(found.values()))
        return {name: _interval([f[name] for f in found.values()], params.confidence) for name in names}

    setups = list(runs)
    if changes is None:
        changes = {pair: (f"{pair[0]} over {pair[1]}", "") for pair in zip(setups[1:], setups[:-1], strict=True)}
    pairs = [(a, b) for i, a in enumerate(setups) for b in reversed(setups[:i]) if all_pairs or (a, b) in changes]
    differences = {f"{a}-{b}": _difference(a, b, runs, per_run, params) for a, b in pairs}
    return {
        "setups": {s: over_seeds(found) for s, found in per_run.items()},
        "differences": differences,
        "scores": {s: over_seeds(found) for s, found in other.items()},
        "classes": {s: _per_class(seeds) for s, seeds in runs.items()},
        "absent": _absent(next(iter(next(iter(runs.values())).values()))),
        "seeds": {s: sorted(seeds) for s, seeds in runs.items()},
        "order": setups,
        "metrics": _titles(per_run),
        "confidence": params.confidence,
        "verdict": verdict(differences, changes, params.confidence),
    }


def summarise_replicates(
    table: pd.DataFrame, params: Evaluate, changes: dict[tuple[str, str], tuple[str, str]] | None = None
) -> dict[str, Any]:
    """Figures of a benchmark: of the replicates with all training pictures, and in ``few_shot`` by shots of the others.

    Parameters
    ----------
    table : with two more columns: shots (0 = all pictures) and against (the setups that the row's is compared with,
        separated by semicolons)
    changes : as in ``summarise``; None = the pairs that the table names
    """
    if changes is None:
        named = table[["setup", "against"]].drop_duplicates().itertuples(index=False)
        pairs = [(setup, base) for setup, against in named for base in filter(None, against.split(";"))]
        changes = {(setup, base): (f"{setup} over {base}", "") for setup, base in pairs}

    def of(rows: pd.DataFrame) -> dict[str, Any]:
        there = set(rows.setup)
        found = {pair: about for pair, about in changes.items() if there.issuperset(pair)}
        return summarise(rows, params, found, all_pairs=False)

    by_shots = {int(shots): rows for shots, rows in table.groupby("shots")}
    return of(by_shots.pop(0)) | {"few_shot": {str(shots): of(rows) for shots, rows in by_shots.items()}}


def _titles(per_run: dict[str, dict[int, dict[str, float]]]) -> list[dict[str, Any]]:
    """What to call each metric that there is, in the tables' order; names of sets make the last ones."""
    names = list(dict.fromkeys(name for seeds in per_run.values() for found in seeds.values() for name in found))
    titles = []
    for name in [*(n for n in TITLES if n in names), *(n for n in names if n not in TITLES)]:
        measure, _, generated = name.partition("_generated_")
        title, more = TITLES.get(name, (f"{measure} on generated {generated}", None))
        titles.append({"name": name, "title": title, "more_is_better": more})
    return titles


def _figures(parts: dict[str, pd.DataFrame], recall: float) -> dict[str, float]:
    """Figures of one run; what a part is missing for is left out."""
    test, found = parts["test"], {}
    found["accuracy_test"] = metrics.accuracy(test.class_name, test.predicted)
    if "shifted" in parts:
        found["accuracy_shifted"] = metrics.accuracy(parts["shifted"].class_name, parts["shifted"].predicted)
    found["macro_f1_test"] = metrics.macro_f1(test.class_name, test.predicted)
    found["knn_accuracy_test"] = metrics.accuracy(test.class_name, test.knn_predicted)
    found["ece_test"] = metrics.ece(test.confidence, test.class_name == test.predicted)
    for kind in ("near", "far"):
        if f"{kind}_test" in parts:
            pair = test.knn.to_numpy(), parts[f"{kind}_test"].knn.to_numpy()
            found[f"{kind}_ood_auroc"] = metrics.auroc(*pair)
            found[f"{kind}_ood_aupr_in"] = metrics.aupr_in(*pair)
            found[f"{kind}_ood_aupr_out"] = metrics.aupr_out(*pair)
            found[f"{kind}_ood_fpr95"] = metrics.fpr(*pair, recall)
    found["id_confidence"] = float(parts["val"].confidence.mean())
    if f"set_{STUDY_SET}" in parts:
        found["ood_confidence"] = float(parts[f"set_{STUDY_SET}"].confidence.mean())
        found["confidence_gap"] = found["id_confidence"] - found["ood_confidence"]
    for part, rows in parts.items():
        if part.startswith("set_"):
            name = part.removeprefix("set_")
            found[f"accuracy_generated_{name}"] = metrics.accuracy(rows.class_name, rows.predicted)
            found[f"confidence_generated_{name}"] = float(rows.confidence.mean())
    return found


def _other_scores(parts: dict[str, pd.DataFrame]) -> dict[str, float]:
    """AUROC of every score, named <score>/<near|far>_ood_auroc."""
    kinds = [kind for kind in ("near", "far") if f"{kind}_test" in parts]
    return {
        f"{score}/{kind}_ood_auroc": metrics.auroc(parts["test"][score], parts[f"{kind}_test"][score])
        for score in scoring.SCORES
        for kind in kinds
    }


def _interval(values: list[float], confidence: float) -> dict[str, Any]:
    mean, low, high = metrics.t_interval(values, confidence)
    return {"mean": _round(mean), "low": _round(low), "high": _round(high), "values": [_round(v) for v in values]}


def _round(value: float | None) -> float | None:
    return None if value is None else round(float(value), 6)


def _difference(a: str, b: str, runs: dict, per_run: dict, params: Evaluate) -> dict[str, Any]:
    """a - b: a t interval over the seeds that both have, and a bootstrap over clusters (see ``_contrasts``)."""
    seeds = sorted(set(per_run[a]) & set(per_run[b]))
    if not seeds:
        return {}
    found = {}
    for metric in per_run[a][seeds[0]]:
        found[metric] = _interval([per_run[a][n][metric] - per_run[b][n][metric] for n in seeds], params.confidence)
    for metric, (values, clusters, unit) in _contrasts(runs[a], runs[b], seeds, params.id_recall).items():
        low, high, count = metrics.cluster_interval(
            values, clusters, seed_from("bootstrap", a, b, metric), params.confidence
        )
        found[metric]["bootstrap"] = {"low": _round(low), "high": _round(high), "clusters": count, "of": unit}
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
            placed = over_seeds(lambda p, part=part: metrics.placements(p["test"].knn, p[part].knn))
            passed = over_seeds(lambda p, part=part: metrics.accepted(p["test"].knn, p[part].knn, recall).astype(float))
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
            values = [metrics.auroc(p["test"].knn, p[part].knn[p[part].class_name == name]) for p in seeds.values()]
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


# --- verdict ------------------------------------------------------------------------------------------------------


def changes(
    setups: list[str], chosen: dict[str, list[SelectedRecord]], trained: dict[str, dict[str, Any]] | None = None
) -> dict[tuple[str, str], tuple[str, str]]:
    """What each setup adds to the largest earlier one that it contains (else to the one before it).

    Of several of the same size, the one whose training differs least; then the earliest.

    Parameters
    ----------
    chosen : setup -> its training table
    trained : setup -> section train as it was trained with; None = all alike
    """
    used = {name: {r.key: r for r in rows} for name, rows in chosen.items()}
    settings = trained or {}
    found = {}
    for i, setup in enumerate(setups[1:], start=1):
        within = [s for s in setups[:i] if s in used and setup in used and used[s].keys() <= used[setup].keys()]
        other = {s: _overrides(setup, s, used, settings) for s in setups[:i]}
        base = max(within, key=lambda s: (len(used[s]), -len(other[s]))) if within else setups[i - 1]
        added = {(r.origin, r.role, r.rule) for key, r in used[setup].items() if key not in used[base]} if within else None
        found[setup, base] = _name_of(added, other[base], setup, base)
    return found


def _overrides(setup: str, base: str, used: dict[str, dict], settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The keys of train that ``setup`` was trained with and ``base`` was not, of those that ``base`` makes use of."""
    has_negatives = any(r.role == "negative" for r in used.get(base, {}).values())
    ours, theirs = settings.get(setup, {}), settings.get(base, {})
    return {
        key: value
        for key, value in ours.items()
        if key in theirs and theirs[key] != value and (has_negatives or not key.startswith("negative"))
    }


def _name_of(
    added: set[tuple[str, str, str]] | None, overrides: dict[str, Any], setup: str, base: str
) -> tuple[str, str]:
    """What was changed, in words, and the role of the added pictures where they have one."""
    spoken = {"real": "Real", "id": "ID", "near_ood": "Near-OOD", "far_ood": "Far-OOD"}
    changed = ["RandAugment" if (k, v) == ("augment", "randaugment") else f"{k} {v}" for k, v in overrides.items()]
    if added is None:
        return f"{setup} over {base}", ""
    if not added and not changed:
        return f"{setup} over {base} (no picture was left to add)", ""
    names = [
        f"{f'Random {origin}' if rule == 'random' else spoken.get(origin, origin)} "
        f"{'negatives' if role == 'negative' else 'photographs' if origin == 'real' else 'augmentations'}"
        for origin, role, rule in sorted(added)
    ]
    roles = {role for _, role, _ in added}
    if not added and any(key.startswith("negative") for key in overrides):
        roles = {"negative"}
    return " and ".join([*names, *changed]), roles.pop() if len(roles) == 1 else ""


def verdict(
    differences: dict[str, Any], changes: dict[tuple[str, str], tuple[str, str]], confidence: float
) -> list[dict[str, Any]]:
    """A sentence per change and measure; the measure that the change is meant for comes first.

    "helps" / "hurts": the t interval over seeds lies above / below 0. The bootstrap is told beside it.
    """
    sentences = []
    for (setup, base), (what, role) in changes.items():
        order = list(SPOKEN)
        if role == "negative":
            order = ["near_ood_auroc", "far_ood_auroc", "accuracy_shifted", "accuracy_test"]
        found = differences[f"{setup}-{base}"]
        present = [metric for metric in order if metric in found]
        for metric in present:
            effect, text = _sentence(what, SPOKEN[metric], found[metric], confidence)
            sentences.append(
                {
                    "setup": setup,
                    "base": base,
                    "change": what,
                    "metric": metric,
                    "effect": effect,
                    "text": text,
                    "main": metric == present[0],
                }
            )
    return sentences


def _sentence(what: str, measure: str, found: dict[str, Any], confidence: float) -> tuple[str, str]:
    start = f"{what} changed {measure} by {_points(found['mean'])} points"
    if found["low"] is None:
        return "one seed", f"{start} (one seed, so no interval and no verdict)."
    effect = "helps" if found["low"] > 0 else "hurts" if found["high"] < 0 else "no evidence"
    text = (
        f"{start} ({confidence * 100:g} % CI {_points(found['low'])} to {_points(found['high'])}, paired over "
        f"{len(found['values'])} seeds): {effect}."
    )
    resampled = found.get("bootstrap")
    if resampled and resampled["clusters"] >= FEW_CLUSTERS:
        text += (
            f" Resampling the {resampled['clusters']} {resampled['of']}: {_points(resampled['low'])} to "
            f"{_points(resampled['high'])}."
        )
    return effect, text


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.1f}".replace("-", "\N{MINUS SIGN}")
