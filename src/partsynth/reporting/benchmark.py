"""The benchmark's page and picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from partsynth.evaluation.summary import TITLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = ("accuracy_test", "accuracy_shifted", "near_ood_auroc", "near_ood_fpr95", "far_ood_auroc")
BESIDE = ("macro_f1_test", "knn_accuracy_test", "ece_test", "id_confidence", "ood_confidence", "confidence_gap")
HEADS = {"main": "Setups", "control": "Controls", "ablation": "Ablations"}


def page(summary: dict[str, Any], stem: str) -> str:
    """The report in Markdown: every number and sentence from ``summary``."""
    about, kinds = summary["benchmark"], summary["kinds"]
    confidence = f"{100 * summary['confidence']:g} %"
    whole = sum(line["shots"] is None for line in about["replicates"])
    lines = [
        f"# {stem}: do augmentations help, and can bad ones help as negatives?",
        "",
        f"    {about['command']}",
        "",
        f"Commit {about['git_commit']}, partsynth {about['partsynth_version']}; "
        f"{about['minutes']:g} minutes of work on {about['machine']}.",
        "",
        f"{whole} replicates. Each redraws training and validation pictures, tokens, augmentation sets, thresholds and "
        f"initialisation; setups are compared within a replicate. Brackets: {confidence} t interval over replicates. "
        f"Figures in per cent, differences in points. Predictions of every picture: `{summary['predictions']}` "
        f"(sha256 `{summary['predictions_sha256']}`); `partsynth evaluate --from-predictions {summary['predictions']}` "
        "computes the tables again.",
        "",
        "No test figure was used for a choice: neighbours of the kNN score are chosen on OOD *validation* pictures in "
        "every replicate, thresholds on validation pictures; test parts are looked at after all training.",
    ]
    lines += _targets(summary)
    for kind, head in HEADS.items():
        names = [name for name in summary["order"] if kinds[name] == kind]
        if not names:
            continue
        lines += ["", f"## {head}", "", *_figures(summary, names, MEASURES)]
        if kind == "main":
            lines += ["", *_figures(summary, names, BESIDE)]
        pairs = [pair for pair in summary["compared"] if kinds[pair[0]] == kind]
        if pairs:
            lines += ["", *_differences(summary, pairs), "", *_sentences(summary, names, every=kind == "main")]
    lines += _few_shot(summary) + _absent(summary)
    shown = "Differences with intervals" + (", and the few-shot curve" if summary["few_shot"] else "")
    lines += ["", f"![{shown}]({stem}.png)", "", *_costs(about["replicates"])]
    return "\n".join(lines) + "\n"


def _titles(summary: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["title"] for entry in summary["metrics"]}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _figures(summary: dict[str, Any], names: list[str], measures: Sequence[str]) -> list[str]:
    titles = _titles(summary)
    shown = [m for m in measures if any(m in summary["setups"][name] for name in names)]
    rows = [
        [f"`{n}`", str(len(summary["seeds"][n])), *(_cell(summary["setups"][n].get(m)) for m in shown)] for n in names
    ]
    return _table(["setup", "replicates", *(titles[m] for m in shown)], rows)


def _differences(summary: dict[str, Any], pairs: Sequence[Sequence[str]]) -> list[str]:
    titles, rows = _titles(summary), []
    shown = [m for m in MEASURES if any(m in summary["differences"]["-".join(pair)] for pair in pairs)]
    for a, b in pairs:
        found = summary["differences"][f"{a}-{b}"]
        rows.append([f"`{a}` less `{b}`", *(_cell(found.get(m), sign=True) for m in shown)])
    return _table(["difference", *(titles[m] for m in shown)], rows)


def _targets(summary: dict[str, Any]) -> list[str]:
    if not summary["targets"]:
        return []
    titles, rows = _titles(summary), []
    for target in summary["targets"]:
        wanted = [(target["mean"], "mean"), (target["low"], "lower end")]
        rows.append(
            [
                f"`{target['setup']}` less `{target['against']}`, {titles.get(target['measure'], target['measure'])}",
                ", ".join(f"{name} at least {100 * value:g}" for value, name in wanted if value is not None),
                _cell(target["difference"], sign=True),
                {True: "met", False: "**missed**", None: "not measured"}[target["met"]],
            ]
        )
    head = ["difference", "target, set before the run", "found", ""]
    return ["", "## Targets", "", *_table(head, rows)]


def _sentences(summary: dict[str, Any], names: list[str], every: bool) -> list[str]:
    """The verdicts, the measure that a change is meant for in bold; or those of that measure alone."""
    chosen = [s for s in summary["verdict"] if s["setup"] in names and (every or s["main"])]
    return [f"- **{s['text']}**" if every and s["main"] else f"- {s['text']}" for s in chosen]


def _cell(found: dict[str, Any] | None, sign: bool = False) -> str:
    if found is None:
        return "-"
    form = "+.1f" if sign else ".1f"
    mean = f"{100 * found['mean']:{form}}"
    return mean if found["low"] is None else f"{mean} [{100 * found['low']:{form}}, {100 * found['high']:{form}}]"


def _few_shot(summary: dict[str, Any]) -> list[str]:
    if not summary["few_shot"]:
        return []
    titles, rows = _titles(summary), []
    shown = [m for m in MEASURES if m in titles]
    for shots, of in _curve(summary).items():
        rows += [
            [f"{shots:g}", f"`{n}`", str(len(of["seeds"][n])), *(_cell(of["setups"][n].get(m)) for m in shown)]
            for n in next(iter(summary["few_shot"].values()))["order"]
            if n in of["setups"]
        ]
    lines = ["", "## Few shots", ""]
    lines += ["Tokens, sets and thresholds see these pictures only: as many for validation as for training.", ""]
    lines += _table(["pictures a class", "setup", "replicates", *(titles[m] for m in shown)], rows)
    for shots, of in summary["few_shot"].items():
        lines += ["", f"{shots} a class:", "", *_sentences(of, of["order"], every=False)]
    return lines


def _curve(summary: dict[str, Any]) -> dict[float, dict[str, Any]]:
    """Pictures a class -> summary, ascending; all pictures last."""
    few = {float(shots): of for shots, of in summary["few_shot"].items()}
    return {shots: few[shots] for shots in sorted(few)} | {summary["shots_of_all"]: summary}


def _absent(summary: dict[str, Any]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for metric, reason in summary["absent"].items():
        reasons.setdefault(reason, []).append(TITLES[metric][0])
    return [line for reason, names in reasons.items() for line in ("", f"Absent: {', '.join(names)} ({reason}).")]


def _costs(replicates: list[dict[str, Any]]) -> list[str]:
    """Minutes by stage, all replicates together."""
    minutes: dict[str, float] = {}
    for line in replicates:
        for name, seconds in line["seconds"]["stages"].items():
            stage = name.partition("@")[0]
            minutes[stage] = minutes.get(stage, 0) + seconds / 60
    told = ", ".join(f"{stage} {spent:.1f}" for stage, spent in minutes.items())
    return [
        f"Minutes by stage: {told}. Git commits, MLflow runs, manifests' hashes and choices: `replicates` in the JSON."
    ]


def picture(summary: dict[str, Any]) -> bytes:
    """PNG: differences with their intervals, and the few-shot curve where there is one."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from partsynth.reporting import figures

    with matplotlib.rc_context(figures.STYLE):
        made = _drawn(summary)
        FigureCanvasAgg(made)
        buffer = io.BytesIO()
        made.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _drawn(summary: dict[str, Any]) -> Figure:
    from matplotlib.figure import Figure

    from partsynth.reporting.figures import COLOURS, MARKERS

    titles, pairs = _titles(summary), summary["compared"]
    shown = [m for m in ("accuracy_shifted", "accuracy_test", "near_ood_auroc") if m in titles]
    height = 1.4 + 0.3 * len(pairs)
    made = Figure(figsize=(11, height + (3.2 if summary["few_shot"] else 0)), layout="constrained", facecolor="white")
    upper = made
    if summary["few_shot"]:
        upper, lower = made.subfigures(2, 1, height_ratios=[height, 3.2])
        curve = _curve(summary)
        first = next(iter(summary["few_shot"].values()))["order"]
        for axis, metric in zip(lower.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            for i, name in enumerate(first):
                found = {shots: of["setups"][name][metric] for shots, of in curve.items() if name in of["setups"]}
                means = [100 * f["mean"] for f in found.values()]
                axis.plot(list(found), means, color=COLOURS[i], marker=MARKERS[i], label=name)
            axis.set(xscale="log", xlabel="pictures a class", title=f"{titles[metric]} (%)")
            axis.set_xticks(list(curve), [f"{shots:g}" for shots in curve])
            axis.minorticks_off()
        axis.legend()
    for axis, metric in zip(upper.subplots(1, len(shown), sharey=True, squeeze=False)[0], shown, strict=True):
        axis.axvline(0, color="#6b7280", linewidth=0.8)
        for row, pair in enumerate(pairs):
            found = summary["differences"]["-".join(pair)].get(metric)
            if found is None:
                continue
            axis.plot([100 * v for v in found["values"]], [row] * len(found["values"]), "o", color="#9aa1aa", ms=3)
            if found["low"] is not None:
                axis.plot([100 * found["low"], 100 * found["high"]], [row, row], color=COLOURS[0], linewidth=1.8)
            axis.plot([100 * found["mean"]], [row], "D", color=COLOURS[0], ms=5)
        axis.set_yticks(range(len(pairs)), [f"{a} \N{MINUS SIGN} {b}" for a, b in pairs])
        axis.set(title=f"{titles[metric]} (points)", ylim=(len(pairs) - 0.5, -0.5))
    return made
