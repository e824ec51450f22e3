"""A trial's parameters as a parameter file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from partsynth.config.params import Params
from partsynth.errors import UserError
from partsynth.records.study import Retrained, StudyResults, TrialResult
from partsynth.store.files import write_text_atomic
from partsynth.store.layout import Layout
from partsynth.store.yaml_rule import dump_yaml, load_yaml
from partsynth.study import space
from partsynth.study.results import results


def apply(params: Params, root: Path, out: Path, trial: int | None = None) -> Path:
    """Write params.yaml with a trial's parameters to a new preset file ``out``; by default those of the best of the
    trials that were trained again on new seeds, or, where none was, of the best trial.

    params.yaml itself is left alone: compare the two files, then copy.

    Raises
    ------
    UserError
        where no trial keeps the limits, ``trial`` is not COMPLETE, or ``out`` exists or is params.yaml.
    """
    source, target = Layout(root).params, root / out
    if target.resolve() == source.resolve():
        raise UserError("study apply never writes params.yaml: name a new file, e.g. --out presets/tuned.yaml")
    if target.exists():
        raise UserError(f"{target} exists: name a new file")
    found = results(params, root)
    chosen = _choose(found, trial)
    content = _tuned(load_yaml(source.read_text()), params, found, chosen)
    head = (
        f"# Trial {chosen.number} of study {found.study} ({found.setup}, {found.mode}): validation accuracy "
        f"{_figures(chosen)}.\n{_again(chosen)}"
        f"# MLflow run {chosen.mlflow_run_id}. Made by partsynth study apply from params.yaml.\n"
    )
    write_text_atomic(target, head + dump_yaml(content, width=120))
    return target


def _figures(told: TrialResult | Retrained) -> str:
    near = "" if told.near_ood_auroc is None else f", near-OOD AUROC {told.near_ood_auroc:.4f}"
    return f"{told.val_accuracy:.4f}{near}"


def _again(chosen: TrialResult) -> str:
    """What the parameters are worth, where they were trained again."""
    if (again := chosen.retrained) is None:
        return ""
    return (
        f"# Chosen among many by that, it is too good by chance: on {len(again.seeds)} new seeds {_figures(again)}.\n"
    )


def _choose(found: StudyResults, trial: int | None) -> TrialResult:
    number = found.answer if trial is None else trial
    if number is None:
        raise UserError(f"no trial of study {found.study} keeps the limits: more trials, or other limits")
    complete = {t.number: t for t in found.trials if t.complete}
    if number not in complete:
        raise UserError(f"trial {number} is not complete; those that are: {', '.join(map(str, complete)) or 'none'}")
    return complete[number]


def _tuned(content: dict[str, Any], params: Params, found: StudyResults, trial: TrialResult) -> dict[str, Any]:
    """A parameter file's content with what the trial changed."""
    train, _ = space.settings(params, trial.params)
    start = space.starting_point(params)
    tuned = {key: value for key, value in train.model_dump(mode="json").items() if value != getattr(start, key)}
    own = ((content.get("select") or {}).get(found.setup) or {}).get("train") or {}  # it wins over section train
    own |= {key: tuned.pop(key) for key in own.keys() & tuned.keys()}
    content["train"] = (content.get("train") or {}) | tuned
    if trial.band is not None:
        content["select"][found.setup]["band"] = list(trial.band)
    return content
