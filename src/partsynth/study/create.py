"""A study's beginning: made with its baselines, gone on with, or joined."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import optuna

from partsynth.config.params import Params
from partsynth.errors import UserError
from partsynth.study import space
from partsynth.study.storage import open_storage, shown
from partsynth.tracking.studies import end_run, open_study

VALUES = ("val_accuracy", "near_ood_auroc")  # what trials are compared by; the second in mode pareto alone


def open_or_create(params: Params, root: Path, data: space.Data) -> tuple[optuna.Study, str]:
    """The study and the id of its MLflow run.

    Raises
    ------
    UserError
        where storage is out of reach, or holds a study of this name with other data or settings.
    """
    settings, names = params.study, VALUES if params.study.mode == "pareto" else VALUES[:1]
    study = optuna.create_study(
        study_name=settings.name,
        storage=open_storage(settings, root),
        directions=["maximize"] * len(names),
        load_if_exists=True,
    )
    identity, known = _identity(params, data), study.user_attrs.get("identity")
    if known is None and study.get_trials(deepcopy=False):  # ours are told what they are before their first trial
        raise UserError(
            f"study {settings.name!r} in {shown(settings.storage)} holds trials of something other than partsynth: set "
            "study.name to another name"
        )
    if known is None:
        study.set_user_attr("identity", identity)
        with contextlib.suppress(AttributeError):
            study.set_metric_names(list(names))
        for point in space.baselines(params, data):
            study.enqueue_trial(point, skip_if_exists=True)
    elif known != identity:
        changed = ", ".join(key for key in identity if known.get(key) != identity[key])
        raise UserError(
            f"study {settings.name!r} in {shown(settings.storage)} was begun with other values of: {changed}. "
            "Its trials cannot be compared with new ones: set study.name to a new name"
        )
    return study, _parent_run(study, params, root)


def _identity(params: Params, data: space.Data) -> dict[str, Any]:
    """What must be the same for trials to be comparable."""
    return {
        "setup": params.study.setup,
        "mode": params.study.mode,
        "data": data.digests,
        "space": params.study.space.model_dump(mode="json"),
        "train": space.starting_point(params).model_dump(mode="json"),
        "min_ood_auroc": params.study.min_ood_auroc,
        "max_drift": params.study.max_drift,
    }


def _parent_run(study: optuna.Study, params: Params, root: Path) -> str:
    """The MLflow run that the study's trials are nested in, RUNNING."""
    settings, before = params.study, study.user_attrs.get("mlflow_run_id")
    tags = {"study": settings.name, "setup": settings.setup, "mode": settings.mode, "storage": shown(settings.storage)}
    made = open_study(root, settings.name, tags, before)
    # none yet, or the store that had it is gone
    if made != before and study.user_attrs.get("mlflow_run_id") == before:
        study.set_user_attr("mlflow_run_id", made)
    kept = study.user_attrs["mlflow_run_id"]
    if kept != made:  # another machine began the study at the same moment
        end_run(root, made, "KILLED", {"superseded_by": kept})
    return kept
