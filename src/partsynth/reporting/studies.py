"""Section on studies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from partsynth.reporting import html
from partsynth.reporting.html import escape

if TYPE_CHECKING:
    pass
from partsynth.reporting.format import short_hash


def study_section(study: dict[str, Any]) -> str:
    """What `study show` prints: trials, importance, Pareto front, history. Validation figures only."""
    from partsynth.reporting import figures as draw

    trials = study["trials"]
    complete = sorted((t for t in trials if t["state"] == "COMPLETE"), key=lambda t: (-t["val_accuracy"], t["number"]))
    limits = ", ".join(
        f"{name} {sign} {study['limits'][key]:g}"
        for key, name, sign in (("near_ood_auroc", "near-OOD AUROC", "≥"), ("drift", "mean drift percentile", "≤"))
    )
    counts = ", ".join(f"{n} {state}" for state, n in study["counts"].items())
    best = "no trial keeps the limits" if study["best"] is None else f"best: trial {study['best']}"
    told = f"{study['mode']}; limits: {limits}; {counts}; {best}"
    parts = [f"<h3>{escape(study['study'])}: {escape(study['setup'])} <small>{escape(told)}</small></h3>"]
    if complete:
        parts.append(
            html.figure(
                draw.study(study),
                "Accuracy of each complete trial and the best so far; the trade-off, with the Pareto front where the "
                "study looks for one; the share of accuracy's variation that each parameter explains.",
                f"Study {study['study']}: {len(complete)} complete trials, {best}.",
            )
        )
    names = sorted({name for t in trials for name in t["params"]})
    rows = []
    for t in complete:
        mark = " ★" if t["number"] == study["best"] else " (front)" if t["number"] in study["pareto"] else ""
        figures = [t["val_accuracy"], t.get("near_ood_auroc"), t.get("drift")]
        kept = "yes" if t["feasible"] else "no"
        rows.append(
            [f"{t['number']}{mark}", *map(short_hash, figures), kept, *(short_hash(t["params"].get(n)) for n in names)]
        )
    heads = ["trial", "accuracy", "near-OOD AUROC", "drift", "limits kept", *map(html.breakable, names)]
    table = html.table("Complete trials, on validation pictures", heads, rows)
    parts.append(table if len(rows) <= 12 else html.details(f"All {len(rows)} complete trials", table))
    data = "".join(f"<li><code>{escape(p)}</code> <code>{escape(md5)}</code></li>" for p, md5 in study["data"].items())
    parts.append(html.details("Data of the study (md5)", f"<ul>{data}</ul>"))
    return "".join(parts) + html.note(
        "Every figure of a study is measured on validation pictures; the test parts are never opened. Trials are nested "
        f"runs of MLflow run <code>{escape(study['mlflow_run_id'])}</code>."
    )
