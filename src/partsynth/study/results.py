"""What a study found."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.trial import FrozenTrial, TrialState

from partsynth.config.params import Params
from partsynth.records.study import HistoryPoint, Limits, Retrained, StateName, StudyResults, TrialResult
from partsynth.study import retrain
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
    keeping = {t.number for t in retrain.keeping(study)}
    pareto = len(study.directions) > 1
    front = study.best_trials if pareto else []
    answers = retrain.answers(study, params.study)
    attributes = study.user_attrs
    identity = attributes.get("identity", {})
    again = retrain.retrained(study, params.study, attributes)
    chosen = retrain.choice(study, params.study, again)
    return StudyResults(
        study=params.study.name,
        setup=identity.get("setup"),
        mode="pareto" if pareto else "constrained",
        limits=Limits(near_ood_auroc=params.study.min_ood_auroc, drift=params.study.max_drift),
        mlflow_run_id=attributes.get("mlflow_run_id"),
        data=identity.get("data"),
        counts={state.name.lower(): n for state in TrialState if (n := sum(t.state == state for t in trials))},
        best=answers[0].number if answers else None,
        **({} if chosen is None else {"chosen": chosen}),
        pareto=[t.number for t in front],
        importance=_importance(study, complete),
        history=_history(complete, keeping),
        trials=[_trial(t, t.number in keeping, again.get(t.number)) for t in trials],
    )


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


def _trial(trial: FrozenTrial, feasible: bool, again: Retrained | None) -> TrialResult:
    seconds = None
    if trial.datetime_complete and trial.datetime_start:
        seconds = round((trial.datetime_complete - trial.datetime_start).total_seconds(), 1)
    kept: dict[str, Any] = {name: trial.user_attrs[name] for name in KEPT if name in trial.user_attrs}
    kept |= {} if again is None else {"retrained": again}
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
