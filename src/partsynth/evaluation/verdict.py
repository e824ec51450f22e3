"""Sentences on what a change brought, made from the numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from partsynth.config.training import Train
from partsynth.evaluation.format import level, points
from partsynth.evaluation.metrics import Metric, metrics
from partsynth.evaluation.results import Difference, Effect, Interval, Sentence
from partsynth.records.rows import SelectedRecord, UseRole

FEW_SEEDS = 5  # below it only large effects would be found: no evidence for or against


class Change(NamedTuple):
    """What a setup adds to the one that it is compared with."""

    what: str  # in words
    role: UseRole | Literal[""] = ""  # of the added images where they have one


CALLED = {  # values of keys of train, as a sentence names them
    ("augment", "randaugment"): "RandAugment",
    ("augment", "both"): "RandAugment beside jitter and grey",
}
USED = {  # values of negative_use, behind what is used so
    "features": "in the features too",
    "outlier_exposure": "as outlier exposure",
    "mixoe": "as MixOE",
}
Changes = Mapping[tuple[str, str], Change]  # (setup, the setup that it is compared with)


def changes(
    setups: list[str], chosen: dict[str, list[SelectedRecord]], trained: dict[str, dict[str, Any]] | None = None
) -> dict[tuple[str, str], Change]:
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
        added = (
            {(r.origin, r.role, r.rule) for key, r in used[setup].items() if key not in used[base]} if within else None
        )
        found[setup, base] = _name_of(added, other[base], setup, base)
    return found


def _overrides(setup: str, base: str, used: dict[str, dict], settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The keys of train that ``setup`` was trained with and ``base`` was not, of those that ``base`` makes use of."""
    has_negatives = any(r.role == "negative" for r in used.get(base, {}).values())
    ours, theirs = settings.get(setup, {}), settings.get(base, {})
    if ours and theirs:  # trainings leave the use of negatives out at its default
        use = {"negative_use": Train.model_fields["negative_use"].default}
        ours, theirs = {**use, **ours}, {**use, **theirs}
    return {
        key: value
        for key, value in ours.items()
        if key in theirs
        and theirs[key] != value
        and (has_negatives or key == "negative_use" or not key.startswith("negative"))
    }


def _name_of(added: set[tuple[str, UseRole, str]] | None, overrides: dict[str, Any], setup: str, base: str) -> Change:
    """What was changed, in words, and the role of the added images where they have one."""
    spoken = {"real": "Real", "id": "ID", "near_ood": "Near-OOD", "far_ood": "Far-OOD"}
    if added is None:
        return Change(f"{setup} over {base}")
    use = USED.get(overrides.get("negative_use", "")) if {role for _, role, _ in added} == {"negative"} else None
    others = {key: value for key, value in overrides.items() if not (use and key == "negative_use")}
    changed = [CALLED.get((key, value), f"{key} {value}") for key, value in others.items()]
    if not added and not changed:
        return Change(f"{setup} over {base} (no image was left to add)")
    names = [
        f"{f'Random {origin}' if rule == 'random' else spoken.get(origin, origin)} "
        f"{'negatives' if role == 'negative' else 'photographs' if origin == 'real' else 'augmentations'}"
        f"{f' {use}' if use else ''}"
        for origin, role, rule in sorted(added)
    ]
    roles: set[UseRole] = {role for _, role, _ in added}
    if not added and any(key.startswith("negative") for key in overrides):
        roles = {"negative"}
    return Change(" and ".join([*names, *changed]), roles.pop() if len(roles) == 1 else "")


def verdict(
    differences: Sequence[Difference],
    changes: Changes,
    confidence: float,
    called: Callable[[Metric, str], str] = lambda metric, words: words,
) -> list[Sentence]:
    """A sentence per change and metric; the metric that the change is meant for comes first.

    "helps" / "hurts": the interval over seeds and parts lies wholly on the better / worse side of 0. Not corrected for
    the number of sentences: exploratory.

    Parameters
    ----------
    called : what a metric's words are in this evaluation
    """
    sentences = []
    for (setup, base), (what, role) in changes.items():
        found = {d.metric: d for d in differences if (d.setup, d.base) == (setup, base)}
        present = {metric: words for metric, words in _order(role).items() if metric.name in found}
        for metric, spoken in present.items():
            difference = found[metric.name]
            effect = effect_of(difference, metric.more_is_better)
            sentence = Sentence(
                setup=setup,
                base=base,
                change=what,
                metric=metric.name,
                effect=effect,
                text=_sentence(what, called(metric, spoken), difference, effect, confidence),
                main=metric is next(iter(present)),
            )
            sentences.append(sentence)
    return sentences


def _order(role: str) -> dict[Metric, str]:
    """The metrics that are told, with their names in sentences; first those that a change of this role is meant for."""
    aim = "detection" if role == "negative" else "classification"
    told = [(metric, metric.spoken) for metric in metrics() if metric.spoken is not None]
    told.sort(key=lambda pair: (pair[1].of != aim, pair[1].of, pair[1].rank))
    return {metric: spoken.words for metric, spoken in told}


def effect_of(found: Interval, more_is_better: bool | None) -> Effect:
    """What an interval of a difference says."""
    if found.low is None or found.high is None or len(found.values) < FEW_SEEDS:
        return "too few to tell"
    if found.low <= 0 <= found.high:
        return "no evidence"
    return "helps" if (found.low > 0) == (more_is_better is not False) else "hurts"


def _sentence(what: str, spoken: str, found: Difference, effect: Effect, confidence: float) -> str:
    count = len(found.values)
    seeds = f"{count} seed{'s' if count != 1 else ''}"
    over = " and ".join([seeds, *(f"{c.count} {c.of}" for c in found.clusters)])
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f", {level(confidence)} CI {points(found.low)} to {points(found.high)}"
    return f"{what} changed {spoken} by {points(found.mean)} points ({over}{interval}): {effect}."
