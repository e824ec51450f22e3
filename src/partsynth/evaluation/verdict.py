"""Sentences on what a change brought, made from the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from partsynth.records.rows import SelectedRecord

if TYPE_CHECKING:
    pass

FEW_CLUSTERS = 5  # below it a bootstrap is too narrow to be told in a sentence
# measures of the verdict, as sentences name them
SPOKEN = {
    "accuracy_shifted": "shifted accuracy",
    "accuracy_test": "test accuracy",
    "near_ood_auroc": "near-OOD AUROC",
    "far_ood_auroc": "far-OOD AUROC",
}


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
        added = (
            {(r.origin, r.role, r.rule) for key, r in used[setup].items() if key not in used[base]} if within else None
        )
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
