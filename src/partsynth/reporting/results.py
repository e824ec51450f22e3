"""Sections on what was found: verdict, results, differences, OOD detection, classes, training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from partsynth.reporting import html
from partsynth.reporting.html import escape

if TYPE_CHECKING:
    pass
from partsynth.reporting.format import SIGNS, arrow, drawable, interval_text, points_text, range_text, spoken, titles_of
from partsynth.reporting.inputs import read_table

MAIN = ("accuracy_test", "accuracy_shifted", "near_ood_auroc", "far_ood_auroc")
TABLES = {
    "Classification and OOD detection": (
        "accuracy_test",
        "accuracy_shifted",
        "macro_f1_test",
        "near_ood_auroc",
        "near_ood_fpr95",
        "far_ood_auroc",
        "far_ood_fpr95",
    ),
    "Further measures": (
        "knn_accuracy_test",
        "ece_test",
        "near_ood_aupr_in",
        "near_ood_aupr_out",
        "far_ood_aupr_in",
        "far_ood_aupr_out",
        "id_confidence",
        "ood_confidence",
        "confidence_gap",
    ),
}
PARTS = {
    "train": "training",
    "val": "validation",
    "test": "test",
    "shifted": "shifted (other wear, light, angles)",
    "near_val": "near-OOD, validation",
    "near_test": "near-OOD, test",
    "far_val": "far-OOD, validation",
    "far_test": "far-OOD, test",
}
SCORES = {
    "knn": "kNN distance (headline)",
    "max_softmax": "max softmax",
    "energy": "energy",
    "mahalanobis": "Mahalanobis",
    "relative_mahalanobis": "relative Mahalanobis",
    "vim": "ViM",
    "prototype_cosine": "prototype cosine",
}


def verdict_section(summary: dict[str, Any]) -> str:
    blocks, order = [], list(dict.fromkeys((s["setup"], s["base"]) for s in summary["verdict"]))
    for setup, base in order:
        sentences = [s for s in summary["verdict"] if (s["setup"], s["base"]) == (setup, base)]
        items = "".join(
            f'<li class="{"main" if s["main"] else "side"}">'
            f'<span class="sign {s["effect"].replace(" ", "-")}" aria-hidden="true">{SIGNS[s["effect"]]}</span>'
            f"<span>{escape(s['text'])}</span></li>"
            for s in sentences
        )
        against = f"<small>{escape(setup)} against {escape(base)}</small>"
        blocks.append(f'<div class="card"><h3>{escape(sentences[0]["change"])} {against}</h3><ul>{items}</ul></div>')
    if not blocks:
        blocks.append("<p>There is one setup only, so nothing to compare.</p>")
    if summary["absent"]:
        blocks.append(f'<div class="card absent"><h3>Not measured</h3>{_absent(summary)}</div>')
    return "".join(blocks) + html.note(
        f"“Helps” and “hurts”: the {100 * summary['confidence']:g} % t interval of the difference, paired over seeds, "
        "lies wholly on one side of zero. The resampled range is a cluster bootstrap: it says how much the difference "
        "depends on which parts or unseen variants were photographed. Sentences are generated from the numbers."
    )


def _absent(summary: dict[str, Any]) -> str:
    reasons: dict[str, list[str]] = {}
    for metric, reason in summary["absent"].items():
        reasons.setdefault(reason, []).append(metric)
    return (
        "<ul>"
        + "".join(
            f"<li><code>{'</code>, <code>'.join(map(escape, m))}</code>: {escape(r)}.</li>" for r, m in reasons.items()
        )
        + "</ul>"
    )


def results_section(summary: dict[str, Any]) -> str:
    from partsynth.reporting import figures as draw

    order, setups, titles = summary["order"], summary["setups"], titles_of(summary)
    panels = {titles[m]["title"]: {s: setups[s][m] for s in order} for m in MAIN if m in titles}
    parts = [
        html.figure(draw.intervals(panels), "Seeds (hollow), mean (filled) and interval of each setup.", spoken(panels))
    ]
    generated = tuple(m for m in titles if "_generated_" in m)
    for caption, wanted in {**TABLES, "On generated pictures": generated}.items():
        present = [m for m in wanted if m in titles]
        if present:
            rows = [
                [
                    escape(titles[m]["title"]) + arrow(titles[m]["more_is_better"]),
                    *(interval_text(setups[s].get(m)) for s in order),
                ]
                for m in present
            ]
            table = html.table(caption, ["measure", *map(html.breakable, order)], rows)
            parts.append(html.details(caption, table) if len(parts) > 1 else table)
    seeds = [
        [escape(titles[m]["title"]), escape(s), *(f"{100 * v:.1f}" for v in setups[s][m]["values"])]
        for m in titles
        for s in order
    ]
    numbers = summary["seeds"][order[0]]
    parts.append(
        html.details(
            "Every run", html.table("Values in percent", ["measure", "setup", *(f"seed {n}" for n in numbers)], seeds)
        )
    )
    level = f"{100 * summary['confidence']:g} %"
    told = f"mean over {len(numbers)} seeds, below it the {level} t interval (not cut at 0 or 100)."
    if len(numbers) < 2:
        told = "one seed, so there are no intervals."
    parts.append(
        html.note(
            f"Percent: {told} ↑ more is better, ↓ less is better. OOD figures use the predeclared kNN distance on unit "
            "features; test pictures are in distribution. FPR@95: share of OOD pictures accepted where 95 % of the "
            "test pictures are. OOD confidence is the original study's measure: it looks at edits of training ones; "
            "read it beside the AUROC, not instead."
        )
    )
    return "".join(parts)


def differences_section(summary: dict[str, Any]) -> str:
    from partsynth.reporting import figures as draw

    titles, order = titles_of(summary), summary["order"]
    pairs = {
        f"{a} \N{MINUS SIGN} {b}": found
        for i, a in enumerate(order)
        for b in reversed(order[:i])
        if (found := summary["differences"][f"{a}-{b}"])
    }
    if not pairs:
        return ""
    wanted = [m for m in (*MAIN, "near_ood_fpr95", "far_ood_fpr95") if m in titles]
    drawn = {
        pair: {titles[m]["title"] + arrow(titles[m]["more_is_better"]): found[m] for m in wanted}
        for pair, found in pairs.items()
    }
    rows = []
    for pair, found in pairs.items():
        for metric in titles:
            entry = found[metric]
            boot = entry.get("bootstrap")
            resampled = (
                f"{range_text(boot)} <small>({boot['clusters']} {escape(boot['of'])})</small>"
                if boot and boot["low"] is not None
                else "–"
            )
            rows.append(
                [
                    escape(pair),
                    escape(titles[metric]["title"]) + arrow(titles[metric]["more_is_better"]),
                    points_text(entry["mean"]),
                    range_text(entry),
                    resampled,
                ]
            )
    table = html.table(
        "Paired differences in points",
        ["setups", "measure", "mean", "interval over seeds", "bootstrap over clusters"],
        rows,
    )
    return html.figure(
        draw.forest(drawn), "Paired differences; right of zero means the first setup has more.", spoken(drawn)
    ) + html.details("All differences as a table", table)


def ood_section(summary: dict[str, Any], plots: Path) -> str:
    from partsynth.reporting import figures as draw

    panels = {f"{kind} OOD": table for kind in ("near", "far") if len(table := read_table(plots / f"roc_{kind}.csv"))}
    if not panels:
        return f"<p>Not measured.</p>{_absent(summary)}"
    parts = [
        html.figure(
            draw.curves(panels),
            "ROC of the kNN distance, mean over seeds; dotted: 95 % of the test pictures kept.",
            "ROC curves; their areas are the AUROC of the table of results.",
        )
    ]
    kinds = [kind.split()[0] for kind in panels]
    order = summary["order"]
    rows = [
        [name, *(interval_text(summary["scores"][s][f"{score}/{kind}_ood_auroc"]) for kind in kinds for s in order)]
        for score, name in SCORES.items()
    ]
    parts.append(
        html.table(
            "AUROC of every score, in percent",
            ["score", *[*map(html.breakable, order)] * len(kinds)],
            rows,
            [f"{kind} OOD" for kind in kinds],
        )
    )
    chosen = [[escape(s), n, c["k"], escape(c["from"])] for s in order for n, c in summary["choices"][s].items()]
    parts.append(
        html.details(
            "Neighbours chosen for kNN",
            html.table("Chosen on validation pictures alone", ["setup", "seed", "k", "by"], chosen),
        )
    )
    parts.append(
        html.note(
            "All scores are fitted to the real training pictures, the same for every setup. Only kNN was "
            "declared the headline beforehand; the others are shown so that nobody has to wonder."
        )
    )
    return "".join(parts)


def classes_section(summary: dict[str, Any], plots: Path) -> str:
    from partsynth.reporting import figures as draw

    order = summary["order"]
    tables = {s: read_table(plots / "confusion" / f"{s}.csv") for s in order}
    parts = [
        html.figure(
            draw.confusion(tables),
            "Confusion on test pictures: percent of each actual class (row), all seeds together.",
            "Confusion matrices; their diagonals are the test columns of the table below.",
        )
    ]
    first = summary["classes"][order[0]]
    for kinds, caption in (
        (("test", "shifted"), "Accuracy a class, in percent"),
        (("near_test", "far_test"), "AUROC an unseen class, in percent"),
    ):
        for_kind = [k for k in kinds if k in first]
        if not for_kind:
            continue
        names = sorted({name for k in for_kind for name in first[k]})
        rows = [
            [escape(n), *(html.bar(summary["classes"][s][k].get(n)) for k in for_kind for s in order)] for n in names
        ]
        parts.append(
            html.table(
                caption, ["class", *[*map(html.breakable, order)] * len(for_kind)], rows, [PARTS[k] for k in for_kind]
            )
        )
    return "".join(parts)


def map_section(plots: Path) -> str:
    from partsynth.reporting import figures as draw

    table = read_table(plots / "embedding.csv")
    if not len(table):
        return ""
    counts = table[table["setup"] == table["setup"].iloc[0]].groupby("part", sort=False).size()
    seen = ", ".join(f"{counts[p]} {p.replace('_', ' ')} pictures" for p in counts.index)
    return html.figure(
        draw.embedding(table),
        f"t-SNE of unit features, first seed of each setup ({seen}).",
        "Map of features: test pictures by class, near- and far-OOD pictures by marker.",
    ) + html.note(
        "Distances between groups mean little in such a map; look whether crosses fall inside a class's group."
    )


def training_section(summary: dict[str, Any], plots: Path) -> str:
    from partsynth.reporting import figures as draw

    counts = summary["data"]["training"]
    order = [s for s in summary["order"] if s in counts]
    kinds = list(dict.fromkeys(kind for s in order for kind in counts[s]))
    rows = [[html.breakable(s), *(counts[s].get(kind, 0) for kind in kinds)] for s in order]
    parts = [html.table("Training pictures a setup", ["setup", *map(html.breakable, kinds)], rows)] if rows else []
    collapsed = [
        (r["setup"], r["seed"], r["config"]["collapse"]) for r in summary["runs"] if r["config"].get("collapse")
    ]
    if collapsed:
        items = "".join(f"<li>{escape(setup)}, seed {seed}: {escape(why)}</li>" for setup, seed, why in collapsed)
        parts.insert(0, f'<div class="card absent"><h3>Trainings that collapsed</h3><ul>{items}</ul></div>')
    if (plots / "history.csv").exists():
        table = read_table(plots / "history.csv")
        columns = [
            c
            for c in table.columns
            if c not in ("setup", "seed", "step", "epoch", "phase", "seconds") and drawable(table[c])
        ]
        if "step" in table and columns:
            for some in (columns[i : i + 3] for i in range(0, len(columns), 3)):
                parts.append(
                    html.figure(draw.histories(table, some), "One line a seed.", f"Training curves: {', '.join(some)}.")
                )
    return "".join(parts)
