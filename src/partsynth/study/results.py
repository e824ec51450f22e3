"""What a study found: table, importance, Pareto front; its best trial's parameters."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partsynth.config.params import Params
from partsynth.errors import UserError
from partsynth.store.files import write_json, write_text_atomic
from partsynth.study import space

if TYPE_CHECKING:
    pass
from partsynth.study.storage import load_study

RESULTS = Path("reports/studies")  # <name>.json, read by the report stage


def results(params: Params, root: Path) -> dict[str, Any]:
    """Trials, the best, importance, Pareto front and history as plain values."""
    from optuna.trial import TrialState

    study = load_study(params.study, root)
    trials = [t for t in study.get_trials(deepcopy=False) if not t.user_attrs.get("surplus")]
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    feasible = [t for t in complete if all(value <= 0 for value in t.constraints.values())]
    pareto = len(study.directions) > 1
    front = _front(feasible) if pareto else []
    allowed = front if pareto else feasible
    if pareto:  # one answer out of a front: the most accurate that keeps the constrained mode's limit
        allowed = [t for t in front if t.values[1] >= params.study.min_ood_auroc] or front
    best = max(allowed, key=lambda t: (t.values[0], t.values[-1], -t.number), default=None)
    history, top = [], None
    for trial in sorted(complete, key=lambda t: (t.datetime_complete, t.number)):
        if trial in feasible and (top is None or trial.values[0] > top):
            top = trial.values[0]
        history.append({"trial": trial.number, "val_accuracy": trial.values[0], "best": top})
    return {
        "study": params.study.name,
        "setup": study.user_attrs.get("identity", {}).get("setup"),
        "mode": "pareto" if pareto else "constrained",
        "limits": {"near_ood_auroc": params.study.min_ood_auroc, "drift": params.study.max_drift},
        "mlflow_run_id": study.user_attrs.get("mlflow_run_id"),
        "data": study.user_attrs.get("identity", {}).get("data"),
        "counts": {state.name.lower(): n for state in TrialState if (n := sum(t.state == state for t in trials))},
        "best": None if best is None else best.number,
        "pareto": [t.number for t in front],
        "importance": _importance(study, complete),
        "history": history,
        "trials": [_trial(t, t in feasible) for t in trials],
    }


def _front(trials: list[Any]) -> list[Any]:
    """Trials that no other is at least as good as in both values and better in one."""

    def beats(a: Any, b: Any) -> bool:
        return all(x >= y for x, y in zip(a.values, b.values, strict=True)) and a.values != b.values

    return [t for t in trials if not any(beats(other, t) for other in trials)]


def _importance(study: Any, complete: list[Any]) -> dict[str, float]:
    """Share of the accuracy's variation that each parameter explains (Optuna's evaluator); empty for too few trials."""
    import optuna

    if len(complete) < 4 or len({t.values[0] for t in complete}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it asks what makes values low: so they are turned round
        try:
            found = optuna.importance.get_param_importances(study, target=lambda t: -t.values[0])
        except (ValueError, RuntimeError):
            return {}
    return {name: float(value) for name, value in found.items()}


def _trial(trial: Any, feasible: bool) -> dict[str, Any]:
    import optuna

    seconds = None
    if trial.datetime_complete and trial.datetime_start:
        seconds = round((trial.datetime_complete - trial.datetime_start).total_seconds(), 1)
    kept = ("near_ood_auroc", "far_ood_auroc", "drift", "band")
    return {
        "number": trial.number,
        "state": trial.state.name,
        "val_accuracy": trial.values[0] if trial.values else None,
        **{name: trial.user_attrs.get(name) for name in kept if name in trial.user_attrs},
        "feasible": feasible if trial.state.name == "COMPLETE" else None,
        "params": trial.params,
        "seconds": seconds,
        "mlflow_run_id": trial.user_attrs.get("mlflow_run_id"),
        "retry_of": optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number(trial),
    }


def show(params: Params, root: Path) -> Path:
    """Print table, importance, Pareto front and history, and write them to ``reports/studies/<name>.json``."""
    data = results(params, root)
    out = RESULTS / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', params.study.name)}.json"
    write_json(root / out, data)
    _print(data)
    print(f"wrote {out}; `dvc repro report` puts it into reports/index.html")
    return out


def _print(data: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    names = sorted({name for trial in data["trials"] for name in trial["params"]})
    rows = []
    order = sorted(data["trials"], key=lambda t: (t["state"] != "COMPLETE", -(t["val_accuracy"] or 0), t["number"]))
    for trial in order:
        marks = "*" if trial["number"] == data["best"] else "p" if trial["number"] in data["pareto"] else ""
        kept = {True: "yes", False: "no", None: ""}[trial["feasible"]]
        figures = [_number(trial.get(name)) for name in ("val_accuracy", "near_ood_auroc", "drift")]
        values = [_number(trial["params"].get(name)) for name in names]
        rows.append([f"{trial['number']}{marks}", trial["state"].lower(), *figures, kept, *values])
    counts = ", ".join(f"{n} {state}" for state, n in data["counts"].items())
    table = Table(title=f"study {data['study']}: {data['setup']}, {data['mode']} ({counts})")
    told = ("trial", "state", "val accuracy", "near AUROC", "drift", "limits kept", *names)
    heads = [name.replace("_", " ") for name in told]
    cells = zip(*rows, strict=True) if rows else [()] * len(heads)
    # headings break between words, never within; a terminal too narrow folds lines, but nothing is cut off
    widths = [max(map(len, [*head.split(), *column])) for head, column in zip(heads, cells, strict=True)]
    for head, width in zip(heads, widths, strict=True):
        table.add_column(head, justify="right", width=width)
    for row in rows:
        table.add_row(*row)
    console = Console(width=max(Console().width, sum(widths) + 3 * len(widths) + 1))
    console.print(table)
    best = "no trial keeps the limits" if data["best"] is None else f"best: trial {data['best']} (*)"
    console.print(best + (f"; Pareto front: {', '.join(map(str, data['pareto']))} (p)" if data["pareto"] else ""))
    for name, share in sorted(data["importance"].items(), key=lambda item: -item[1]):
        console.print(f"  {name:22s} {'#' * round(40 * share)} {share:.2f}")
    steps = [h for i, h in enumerate(data["history"]) if i == 0 or h["best"] != data["history"][i - 1]["best"]]
    if steps:
        console.print(
            "best accuracy so far: " + ", ".join(f"{_number(h['best'])} at trial {h['trial']}" for h in steps)
        )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def apply(params: Params, root: Path, out: Path, trial: int | None = None) -> Path:
    """Write params.yaml with a trial's parameters (the best one's by default) to a new preset file ``out``.

    params.yaml itself is left alone: compare the two files, then copy.

    Raises
    ------
    UserError
        where no trial keeps the limits, ``trial`` is not COMPLETE, or ``out`` exists or is params.yaml.
    """
    import yaml

    source, target = root / "params.yaml", out if out.is_absolute() else root / out
    if target.resolve() == source.resolve():
        raise UserError("study apply never writes params.yaml: name a new file, e.g. --out presets/tuned.yaml")
    if target.exists():
        raise UserError(f"{target} exists: name a new file")
    data = results(params, root)
    chosen = data["best"] if trial is None else trial
    if chosen is None:
        raise UserError(f"no trial of study {params.study.name} keeps the limits: more trials, or other limits")
    found = next((t for t in data["trials"] if t["number"] == chosen and t["state"] == "COMPLETE"), None)
    if found is None:
        complete = ", ".join(str(t["number"]) for t in data["trials"] if t["state"] == "COMPLETE") or "none"
        raise UserError(f"trial {chosen} is not complete; those that are: {complete}")
    train, _ = space.settings(params, found["params"])
    start = space.starting_point(params)
    tuned = {key: value for key, value in train.model_dump(mode="json").items() if value != getattr(start, key)}
    content = yaml.safe_load(source.read_text())
    own = ((content.get("select") or {}).get(data["setup"]) or {}).get("train") or {}  # it wins over section train
    own |= {key: tuned.pop(key) for key in own.keys() & tuned.keys()}
    content["train"] = (content.get("train") or {}) | tuned
    if found.get("band"):
        content["select"][data["setup"]]["band"] = found["band"]
    near = found.get("near_ood_auroc")
    head = (
        f"# Trial {chosen} of study {data['study']} ({data['setup']}, {data['mode']}): validation accuracy "
        f"{found['val_accuracy']:.4f}"
        + (f", near-OOD AUROC {near:.4f}" if near is not None else "")
        + f".\n# MLflow run {found['mlflow_run_id']}. Made by partsynth study apply from params.yaml.\n"
    )
    write_text_atomic(target, head + yaml.safe_dump(content, sort_keys=False, width=120))
    return target
