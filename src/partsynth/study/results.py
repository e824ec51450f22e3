"""What a study found."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.trial import FrozenTrial, TrialState

from partsynth.config.params import Params
from partsynth.config.study import Study
from partsynth.records.study import HistoryPoint, Limits, StateName, StudyResults, TrialResult
from partsynth.study.retries import original
from partsynth.study.storage import load_study

KEPT = ("near_ood_auroc", "far_ood_auroc", "drift", "band")  # a trial's attributes that are shown


def results(params: Params, root: Path) -> StudyResults:
    """Trials, the best, importance, Pareto front and history.

    Raises
    ------
    UserError
        where there is no such study.
    """
    study = load_study(params.study, root)
    trials = [t for t in study.get_trials(deepcopy=False) if not t.user_attrs.get("surplus")]
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    feasible = [t for t in complete if all(value <= 0 for value in t.constraints.values())]
    keeping = {t.number for t in feasible}
    pareto = len(study.directions) > 1
    front = study.best_trials if pareto else []
    identity = study.user_attrs.get("identity", {})
    return StudyResults(
        study=params.study.name,
        setup=identity.get("setup"),
        mode="pareto" if pareto else "constrained",
        limits=Limits(near_ood_auroc=params.study.min_ood_auroc, drift=params.study.max_drift),
        mlflow_run_id=study.user_attrs.get("mlflow_run_id"),
        data=identity.get("data"),
        counts={state.name.lower(): n for state in TrialState if (n := sum(t.state == state for t in trials))},
        best=_best(_answers(front, params.study) if pareto else feasible),
        pareto=[t.number for t in front],
        importance=_importance(study, complete),
        history=_history(complete, keeping),
        trials=[_trial(t, t.number in keeping) for t in trials],
    )


def _answers(front: list[FrozenTrial], settings: Study) -> list[FrozenTrial]:
    """Of a front, those that keep the constrained mode's limit, where there are any: one answer is wanted."""
    return [t for t in front if t.values[1] >= settings.min_ood_auroc] or front


def _best(trials: list[FrozenTrial]) -> int | None:
    """The most accurate; of equals that of the higher second value, then the first."""
    best = max(trials, key=lambda t: (t.values[0], t.values[-1], -t.number), default=None)
    return None if best is None else best.number


def _history(complete: list[FrozenTrial], keeping: set[int]) -> list[HistoryPoint]:
    history: list[HistoryPoint] = []
    top: float | None = None
    for trial in sorted(complete, key=lambda t: (t.datetime_complete, t.number)):
        accuracy = trial.values[0]
        if trial.number in keeping and (top is None or accuracy > top):
            top = accuracy
        history.append(HistoryPoint(trial=trial.number, val_accuracy=accuracy, best=top))
    return history


def _importance(study: optuna.Study, complete: list[FrozenTrial]) -> dict[str, float]:
    """Share of the accuracy's variation that each parameter explains (Optuna's evaluator); empty for too few trials."""
    if len(complete) < 4 or len({t.values[0] for t in complete}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it asks what makes values low: so they are turned round
        try:
            found = optuna.importance.get_param_importances(study, target=lambda t: -t.values[0])
        except (ValueError, RuntimeError):
            return {}
    return {name: float(value) for name, value in found.items()}


def _trial(trial: FrozenTrial, feasible: bool) -> TrialResult:
    seconds = None
    if trial.datetime_complete and trial.datetime_start:
        seconds = round((trial.datetime_complete - trial.datetime_start).total_seconds(), 1)
    kept: dict[str, Any] = {name: trial.user_attrs[name] for name in KEPT if name in trial.user_attrs}
    return TrialResult(
        number=trial.number,
        state=cast(StateName, trial.state.name),
        val_accuracy=trial.values[0] if trial.values else None,
        feasible=feasible if trial.state == TrialState.COMPLETE else None,
        params=trial.params,
        seconds=seconds,
        mlflow_run_id=trial.user_attrs.get("mlflow_run_id"),
        retry_of=original(trial),
        **kept,
    )
