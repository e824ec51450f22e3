"""One page for engineers and auditors: what was found, on how many pictures, and what everything looks like.

Self-contained HTML (pictures and figures inside it, no request to anywhere), the same bytes for the same inputs.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from partsynth import page
from partsynth.page import escape
from partsynth.params import Report
from partsynth.records import (
    AugmentedRecord,
    RealRecord,
    UserError,
    VerdictRecord,
    inside,
    read_json,
    read_manifest,
    write_text_atomic,
)

if TYPE_CHECKING:
    import pandas as pd

MAX_SIDE = 128  # pixels; larger pictures are reduced, so that a page of 512-pixel sets stays portable
SHEET_ROWS = 16  # at most, in the sheet of sources and their augmentations
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
SIGNS = {"helps": "▲", "hurts": "▼", "no evidence": "●", "one seed": "○"}


def run(
    params: Report,
    metrics: Path,
    plots: Path,
    quality: Path,
    augmented: Path,
    real: Path,
    out: Path,
    root: Path,
    ood: Path,
    verdicts: Path,
    studies: Path,
) -> None:
    """Write the page ``out``.

    Parameters
    ----------
    metrics, plots : reports/metrics and reports/plots, written by the evaluate stage
    quality : reports/quality, whose pages are linked where they exist
    augmented, real : data/augmented and data/real, whose pictures are shown
    ood, verdicts : data/ood and data/quality, the tables of the quality stage
    studies : reports/studies, one JSON file of `partsynth study show` a study; there may be none
    """
    summary = read_json(metrics / "summary.json")
    shown = _shown(augmented, real, ood, verdicts)
    sections = [
        ("verdict", "Verdict", _verdict(summary)),
        ("results", "Results", _results(summary)),
        ("differences", "Differences", _differences(summary)),
        ("ood", "OOD detection", _ood(summary, plots)),
        ("classes", "Classes", _classes(summary, plots)),
        ("map", "Embedding map", _map(plots)),
        ("drift", "Drift", _drift(shown)),
        ("augmentations", "Augmentations", _augmentations(shown, root, params)),
        ("flagged", "Flagged pictures", _flagged(shown, root, params, quality, out)),
        ("real", "Real pictures", _real(shown, root, params)),
        ("training", "Training", _training(summary, plots)),
        ("studies", "Studies", "".join(_study(read_json(path)) for path in sorted(studies.glob("*.json")))),
        ("data", "Data and provenance", _data(summary)),
    ]
    write_text_atomic(out, _page(params.title, summary, [s for s in sections if s[2]]))
    print(f"report: {out} ({out.stat().st_size / 1e6:.1f} MB)")


@dataclass(frozen=True)
class Shown:
    """The manifests behind the pictures on the page."""

    real: list[RealRecord]
    ood: list[RealRecord]
    sets: dict[str, list[AugmentedRecord]]
    verdicts: dict[str, dict[str, VerdictRecord]]  # set -> picture's path -> verdict


def _shown(augmented: Path, real: Path, ood: Path, verdicts: Path) -> Shown:
    sets = {p.parent.name: read_manifest(p, AugmentedRecord) for p in sorted(augmented.glob("*/manifest.csv"))}
    ordered = [name for name in ("id", "near_ood", "far_ood") if name in sets]
    ordered += [name for name in sets if name not in ordered]
    judged = {p.stem: {v.path: v for v in read_manifest(p, VerdictRecord)} for p in sorted(verdicts.glob("*.csv"))}
    return Shown(
        real=read_manifest(real / "manifest.csv", RealRecord),
        ood=read_manifest(ood / "manifest.csv", RealRecord) if (ood / "manifest.csv").exists() else [],
        sets={name: sets[name] for name in ordered},
        verdicts=judged,
    )


# --- sections: figures --------------------------------------------------------------------------------------------


def _verdict(summary: dict[str, Any]) -> str:
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
    return "".join(blocks) + page.note(
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


def _results(summary: dict[str, Any]) -> str:
    from partsynth import plots as draw

    order, setups, titles = summary["order"], summary["setups"], _titles(summary)
    panels = {titles[m]["title"]: {s: setups[s][m] for s in order} for m in MAIN if m in titles}
    parts = [
        page.figure(
            draw.intervals(panels), "Seeds (hollow), mean (filled) and interval of each setup.", _spoken(panels)
        )
    ]
    generated = tuple(m for m in titles if "_generated_" in m)
    for caption, wanted in {**TABLES, "On generated pictures": generated}.items():
        present = [m for m in wanted if m in titles]
        if present:
            rows = [
                [
                    escape(titles[m]["title"]) + _arrow(titles[m]["more_is_better"]),
                    *(_interval(setups[s].get(m)) for s in order),
                ]
                for m in present
            ]
            table = page.table(caption, ["measure", *map(page.breakable, order)], rows)
            parts.append(page.details(caption, table) if len(parts) > 1 else table)
    seeds = [
        [escape(titles[m]["title"]), escape(s), *(f"{100 * v:.1f}" for v in setups[s][m]["values"])]
        for m in titles
        for s in order
    ]
    numbers = summary["seeds"][order[0]]
    parts.append(
        page.details(
            "Every run", page.table("Values in percent", ["measure", "setup", *(f"seed {n}" for n in numbers)], seeds)
        )
    )
    level = f"{100 * summary['confidence']:g} %"
    told = f"mean over {len(numbers)} seeds, below it the {level} t interval (not cut at 0 or 100)."
    if len(numbers) < 2:
        told = "one seed, so there are no intervals."
    parts.append(
        page.note(
            f"Percent: {told} ↑ more is better, ↓ less is better. OOD figures use the predeclared kNN distance on unit "
            "features; test pictures are in distribution. FPR@95: share of OOD pictures accepted where 95 % of the "
            "test pictures are. OOD confidence is the original study's measure: it looks at edits of training ones; "
            "read it beside the AUROC, not instead."
        )
    )
    return "".join(parts)


def _differences(summary: dict[str, Any]) -> str:
    from partsynth import plots as draw

    titles, order = _titles(summary), summary["order"]
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
        pair: {titles[m]["title"] + _arrow(titles[m]["more_is_better"]): found[m] for m in wanted}
        for pair, found in pairs.items()
    }
    rows = []
    for pair, found in pairs.items():
        for metric in titles:
            entry = found[metric]
            boot = entry.get("bootstrap")
            resampled = (
                f"{_range(boot)} <small>({boot['clusters']} {escape(boot['of'])})</small>"
                if boot and boot["low"] is not None
                else "–"
            )
            rows.append(
                [
                    escape(pair),
                    escape(titles[metric]["title"]) + _arrow(titles[metric]["more_is_better"]),
                    _points(entry["mean"]),
                    _range(entry),
                    resampled,
                ]
            )
    table = page.table(
        "Paired differences in points",
        ["setups", "measure", "mean", "interval over seeds", "bootstrap over clusters"],
        rows,
    )
    return page.figure(
        draw.forest(drawn), "Paired differences; right of zero means the first setup has more.", _spoken(drawn)
    ) + page.details("All differences as a table", table)


def _ood(summary: dict[str, Any], plots: Path) -> str:
    from partsynth import plots as draw

    panels = {f"{kind} OOD": table for kind in ("near", "far") if len(table := _read(plots / f"roc_{kind}.csv"))}
    if not panels:
        return f"<p>Not measured.</p>{_absent(summary)}"
    parts = [
        page.figure(
            draw.curves(panels),
            "ROC of the kNN distance, mean over seeds; dotted: 95 % of the test pictures kept.",
            "ROC curves; their areas are the AUROC of the table of results.",
        )
    ]
    kinds = [kind.split()[0] for kind in panels]
    order = summary["order"]
    rows = [
        [name, *(_interval(summary["scores"][s][f"{score}/{kind}_ood_auroc"]) for kind in kinds for s in order)]
        for score, name in SCORES.items()
    ]
    parts.append(
        page.table(
            "AUROC of every score, in percent",
            ["score", *[*map(page.breakable, order)] * len(kinds)],
            rows,
            [f"{kind} OOD" for kind in kinds],
        )
    )
    chosen = [[escape(s), n, c["k"], escape(c["from"])] for s in order for n, c in summary["choices"][s].items()]
    parts.append(
        page.details(
            "Neighbours chosen for kNN",
            page.table("Chosen on validation pictures alone", ["setup", "seed", "k", "by"], chosen),
        )
    )
    parts.append(
        page.note(
            "All scores are fitted to the real training pictures, the same for every setup. Only kNN was "
            "declared the headline beforehand; the others are shown so that nobody has to wonder."
        )
    )
    return "".join(parts)


def _classes(summary: dict[str, Any], plots: Path) -> str:
    from partsynth import plots as draw

    order = summary["order"]
    tables = {s: _read(plots / "confusion" / f"{s}.csv") for s in order}
    parts = [
        page.figure(
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
            [escape(n), *(page.bar(summary["classes"][s][k].get(n)) for k in for_kind for s in order)] for n in names
        ]
        parts.append(
            page.table(
                caption, ["class", *[*map(page.breakable, order)] * len(for_kind)], rows, [PARTS[k] for k in for_kind]
            )
        )
    return "".join(parts)


def _map(plots: Path) -> str:
    from partsynth import plots as draw

    table = _read(plots / "embedding.csv")
    if not len(table):
        return ""
    counts = table[table["setup"] == table["setup"].iloc[0]].groupby("part", sort=False).size()
    seen = ", ".join(f"{counts[p]} {p.replace('_', ' ')} pictures" for p in counts.index)
    return page.figure(
        draw.embedding(table),
        f"t-SNE of unit features, first seed of each setup ({seen}).",
        "Map of features: test pictures by class, near- and far-OOD pictures by marker.",
    ) + page.note(
        "Distances between groups mean little in such a map; look whether crosses fall inside a class's group."
    )


def _training(summary: dict[str, Any], plots: Path) -> str:
    from partsynth import plots as draw

    counts = summary["data"]["training"]
    order = [s for s in summary["order"] if s in counts]
    kinds = list(dict.fromkeys(kind for s in order for kind in counts[s]))
    rows = [[page.breakable(s), *(counts[s].get(kind, 0) for kind in kinds)] for s in order]
    parts = [page.table("Training pictures a setup", ["setup", *map(page.breakable, kinds)], rows)] if rows else []
    collapsed = [
        (r["setup"], r["seed"], r["config"]["collapse"]) for r in summary["runs"] if r["config"].get("collapse")
    ]
    if collapsed:
        items = "".join(f"<li>{escape(setup)}, seed {seed}: {escape(why)}</li>" for setup, seed, why in collapsed)
        parts.insert(0, f'<div class="card absent"><h3>Trainings that collapsed</h3><ul>{items}</ul></div>')
    if (plots / "history.csv").exists():
        table = _read(plots / "history.csv")
        columns = [
            c
            for c in table.columns
            if c not in ("setup", "seed", "step", "epoch", "phase", "seconds") and _drawable(table[c])
        ]
        if "step" in table and columns:
            for some in (columns[i : i + 3] for i in range(0, len(columns), 3)):
                parts.append(
                    page.figure(draw.histories(table, some), "One line a seed.", f"Training curves: {', '.join(some)}.")
                )
    return "".join(parts)


def _study(study: dict[str, Any]) -> str:
    """What `study show` prints: trials, importance, Pareto front, history. Validation figures only."""
    from partsynth import plots as draw

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
            page.figure(
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
            [f"{t['number']}{mark}", *map(_short, figures), kept, *(_short(t["params"].get(n)) for n in names)]
        )
    heads = ["trial", "accuracy", "near-OOD AUROC", "drift", "limits kept", *map(page.breakable, names)]
    table = page.table("Complete trials, on validation pictures", heads, rows)
    parts.append(table if len(rows) <= 12 else page.details(f"All {len(rows)} complete trials", table))
    data = "".join(f"<li><code>{escape(p)}</code> <code>{escape(md5)}</code></li>" for p, md5 in study["data"].items())
    parts.append(page.details("Data of the study (md5)", f"<ul>{data}</ul>"))
    return "".join(parts) + page.note(
        "Every figure of a study is measured on validation pictures; the test parts are never opened. Trials are nested "
        f"runs of MLflow run <code>{escape(study['mlflow_run_id'])}</code>."
    )


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _drawable(column: pd.Series) -> bool:
    return column.dtype.kind in "if" and column.notna().sum() > 1 and column.nunique() > 1


def _data(summary: dict[str, Any]) -> str:
    data = summary["data"]
    order = [*(p for p in PARTS if p in data["parts"]), *(p for p in data["parts"] if p not in PARTS)]
    rows = [
        [
            escape(PARTS.get(p, f"augmentation set {p.removeprefix('set_')}")),
            *(data["parts"][p][n] for n in ("pictures", "classes", "groups")),
        ]
        for p in order
    ]
    parts = [page.table("Pictures (n)", ["part", "pictures", "classes", "physical parts or spots"], rows)]
    configs = {repr(r["config"]): r["config"] for r in summary["runs"]}
    shared = _flat(next(iter(configs.values())))
    same = {k: v for k, v in shared.items() if all(_flat(c).get(k) == v for c in configs.values())}
    parts.append(
        page.details(
            "Training parameters shared by every run",
            page.table(
                "From the models' config.json",
                ["key", "value"],
                [[f"<code>{escape(k)}</code>", escape(v)] for k, v in same.items()],
            ),
        )
    )
    hashes = [[f"<code>{escape(k)}</code>", f"<code>{v}</code>"] for k, v in data["manifests"].items()]
    hashes += [["<code>predictions.csv</code>", f"<code>{summary['predictions_sha256']}</code>"]]
    parts.append(page.details("Hashes of manifests and predictions", page.table("sha256", ["file", "sha256"], hashes)))
    models = [
        [escape(r["setup"]), r["seed"], escape(name), f"<code>{digest}</code>"]
        for r in summary["runs"]
        for name, digest in r["sha256"].items()
    ]
    parts.append(page.details("Hashes of models", page.table("sha256", ["setup", "seed", "file", "sha256"], models)))
    parts.append(
        page.note(
            "A manifest lists every picture with its own sha256, so its hash pins the pictures too. All "
            "figures on this page follow from predictions.csv: <code>partsynth evaluate --from-predictions</code>."
        )
    )
    return "".join(parts)


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{prefix}{key}.") if isinstance(inner, dict) else {f"{prefix}{key}": str(inner)}
    return found


# --- sections: pictures -------------------------------------------------------------------------------------------


def _drift(shown: Shown) -> str:
    from partsynth import plots as draw

    order = [n for n in shown.sets if n in shown.verdicts] + [n for n in shown.verdicts if n not in shown.sets]
    judged = {n: list(shown.verdicts[n].values()) for n in order if shown.verdicts[n]}
    if not judged:
        return ""
    far = {n: [_too_far(v) for v in rows] for n, rows in judged.items()}
    limits = [v.drift for n, rows in judged.items() for v, flagged in zip(rows, far[n], strict=True) if flagged]
    rows = []
    for name, found in judged.items():
        reasons: dict[str, int] = {}
        for v in found:
            for reason in filter(None, v.reasons.split(";")):
                reasons[reason] = reasons.get(reason, 0) + 1
        told = ", ".join(f"{r} {n}" for r, n in sorted(reasons.items())) or "–"
        accepted = sum(v.verdict == "accept" for v in found)
        nearest = sum(v.class_margin > 0 for v in found)
        rows.append(
            [
                escape(name),
                len(found),
                f"{accepted} ({100 * accepted / len(found):.0f} %)",
                escape(told),
                f"{np.median([v.percentile for v in found]):.2f}",
                f"{nearest} ({100 * nearest / len(found):.0f} %)",
                found[0].calibration_n,
            ]
        )
    heads = ["set", "pictures", "accepted", "reasons", "median percentile", "nearest class is its own", "calibration n"]
    drawn = {n: ([v.drift for v in r], far[n]) for n, r in judged.items()}
    return page.figure(
        draw.drift(drawn, min(limits) if limits else None),
        "Drift of each set; the last bin holds the largest 1 %.",
        "Histograms of drift, summed up in the table below.",
    ) + page.table("Verdicts a set", heads, rows)


def _too_far(verdict: VerdictRecord) -> bool:
    return "drift" in verdict.reasons.split(";")


def _augmentations(shown: Shown, root: Path, params: Report) -> str:
    if not shown.sets:
        return "<p>There are no augmentation sets.</p>"
    sources = [r for r in shown.real if r.split == "train" and r.role == "target"]
    by_source = {n: _grouped(rows, lambda r: r.source) for n, rows in shown.sets.items()}
    used = [r for r in sources if any(r.path in found for found in by_source.values())]
    by_class = _grouped(used, lambda r: r.class_name)
    rounds = max(1, min(SHEET_ROWS, params.sheet_pictures) // max(len(by_class), 1))
    chosen = [r for rows in by_class.values() for r in _spread(rows, rounds)][: params.sheet_pictures]
    heads = ["<th scope=col>real source</th>"]
    for name, found in by_source.items():
        width = max((len(found.get(r.path, [])) for r in chosen), default=0)
        told = f"{escape(name)}<br><small>{escape(_strengths(shown.sets[name]))}</small>"
        heads += [f"<th scope=colgroup colspan={max(width, 1)}>{told}</th>"]
    body = []
    for record in chosen:
        cells = [f"<th scope=row>{_captioned(root, record.path, record.class_name)}</th>"]
        for name, found in by_source.items():
            width = max((len(found.get(r.path, [])) for r in chosen), default=0)
            rows = sorted(found.get(record.path, []), key=lambda r: r.variant)
            judged = shown.verdicts.get(name, {})
            cells += [f"<td>{_captioned(root, r.path, r.prompt, judged.get(r.path))}</td>" for r in rows]
            cells += ["<td></td>"] * (max(width, 1) - len(rows))
        body.append(f"<tr>{''.join(cells)}</tr>")
    return page.scroll(
        f'<table class="sheet"><thead><tr>{"".join(heads)}</tr></thead><tbody>{"".join(body)}</tbody></table>',
        "Contact sheet: a row a source, its augmentations beside it",
    ) + page.note("Sources are taken evenly from each class. Prompt and verdict stand below each picture.")


def _captioned(root: Path, path: str, caption: str, verdict: VerdictRecord | None = None) -> str:
    return f"{_picture(root, path, caption)}{_tag(verdict)}<span>{escape(caption)}</span>"


def _tag(verdict: VerdictRecord | None) -> str:
    if verdict is None:
        return ""
    if verdict.verdict == "accept":
        return f'<b class="ok">✓ {verdict.percentile:.2f}</b>'
    return (
        f'<b class="no">✗ {escape(verdict.reasons.replace(";", ", ").replace("_", " "))} {verdict.percentile:.2f}</b>'
    )


def _strengths(rows: Sequence[AugmentedRecord]) -> str:
    values = sorted({r.strength for r in rows})
    text = ", ".join(f"{v:g}" for v in values) if len(values) <= 4 else f"{values[0]:g} to {values[-1]:g}"
    return f"strength {text}" if values else "empty"


def _flagged(shown: Shown, root: Path, params: Report, quality: Path, out: Path) -> str:
    parts = []
    for name, rows in shown.sets.items():
        verdicts = shown.verdicts.get(name, {})
        records = {r.path: r for r in rows if r.path in verdicts}
        flagged = sorted(
            (v for v in verdicts.values() if v.verdict != "accept" and v.path in records),
            key=lambda v: (-v.drift, v.path),
        )
        accepted = sorted(
            (v for v in verdicts.values() if v.verdict == "accept" and v.path in records),
            key=lambda v: (v.drift, v.path),
        )
        if not verdicts:
            continue
        link = quality / name / "data_docs" / "index.html"
        docs = (
            f' <a href="{escape(os.path.relpath(link, out.parent))}">Great Expectations Data Docs</a>'
            if link.exists()
            else ""
        )
        parts.append(f"<h3>{escape(name)}: {len(flagged)} flagged, {len(accepted)} accepted{docs}</h3>")
        for title, some in (
            ("Flagged, farthest first", flagged[: params.sheet_pictures]),
            ("Accepted, from least to most drift", _spread(accepted, params.sheet_pictures)),
        ):
            if some:
                cells = "".join(f"<li>{_captioned(root, v.path, v.class_name, v)}</li>" for v in some)
                parts.append(f'<h4>{title}</h4><ul class="grid">{cells}</ul>')
    return "".join(parts) + (
        page.note("The figure below a picture is its drift's percentile among real validation pictures.")
        if parts
        else ""
    )


def _real(shown: Shown, root: Path, params: Report) -> str:
    columns = [split for split in ("train", "val", "test", "shifted") if any(r.split == split for r in shown.real)]
    body = []
    for name, records in list(_grouped(shown.real, lambda r: r.class_name).items())[: params.sheet_pictures]:
        cells = [f"<th scope=row>{escape(name)}</th>"]
        for split in columns:
            some = _spread([r for r in records if r.split == split], 2)
            cells.append(
                f"<td>{''.join(_picture(root, r.path, f'{name}, {split}, {r.state}') for r in some) or '–'}</td>"
            )
        body.append(f"<tr>{''.join(cells)}</tr>")
    heads = "".join(f"<th scope=col>{c}</th>" for c in ["class", *columns])
    parts = [
        "<h3>Parts to tell apart</h3>",
        page.scroll(
            f'<table class="sheet"><thead><tr>{heads}</tr></thead><tbody>{"".join(body)}</tbody></table>',
            "Real pictures of each class",
        ),
    ]
    for part, rows in _grouped(shown.ood, lambda r: (r.role != "near_ood", r.split != "val", r.role, r.split)).items():
        by_class = _grouped(rows, lambda r: r.class_name)
        some = _spread([r for found in by_class.values() for r in _spread(found, 2)], params.sheet_pictures)
        cells = "".join(f"<li>{_captioned(root, r.path, r.class_name)}</li>" for r in some)
        title = PARTS[f"{part[2].removesuffix('_ood')}_{part[3]}"]
        parts.append(
            f'<h3>{title} <small>never trained on; {len(by_class)} classes</small></h3><ul class="grid">{cells}</ul>'
        )
    return "".join(parts)


def _grouped(rows: Iterable[Any], key: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return dict(sorted(found.items()))


def _spread(rows: Sequence[Any], count: int) -> list[Any]:
    """``count`` of the rows, evenly spaced."""
    return (
        [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))]
        if rows
        else []
    )


def _picture(root: Path, path: str, alt: str) -> str:
    from PIL import Image

    file = inside(root, path)
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except OSError:
        raise UserError(f"{file} is in a manifest but missing or no picture: dvc checkout, or dvc repro") from None
    small = max(image.size) <= MAX_SIDE
    if not small:
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", lossless=small, quality=85 if not small else 60, method=2)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/webp;base64,{data}" alt="{escape(alt)}" title="{escape(path)}">'


# --- words and numbers ------------------------------------------------------------------------------------------


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(
            path, dtype={"setup": str, "class_name": str, "actual": str, "predicted": str}, keep_default_na=True
        )
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run the evaluate stage (dvc repro)") from None


def _titles(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {about["name"]: about for about in summary["metrics"]}


def _interval(found: dict[str, Any] | None) -> str:
    if found is None:
        return "absent"
    below = "" if found["low"] is None else f"<small>{_percent(found['low'])} to {_percent(found['high'])}</small>"
    return f"{_percent(found['mean'])}{below}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}".replace("-", "\N{MINUS SIGN}")


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")


def _range(found: dict[str, Any]) -> str:
    return "–" if found["low"] is None else f"{_points(found['low'])} to {_points(found['high'])}"


def _arrow(more_is_better: bool | None) -> str:
    return "" if more_is_better is None else " ↑" if more_is_better else " ↓"


def _spoken(panels: dict[str, dict[str, dict[str, Any]]]) -> str:
    return "; ".join(
        f"{title}: " + ", ".join(f"{s} {100 * f['mean']:.1f}" for s, f in found.items())
        for title, found in panels.items()
    )


def _page(title: str, summary: dict[str, Any], sections: Sequence[tuple[str, str, str]]) -> str:
    parts = summary["data"]["parts"]
    runs = sum(len(seeds) for seeds in summary["seeds"].values())
    told = [f"{len(summary['setups'])} setups", f"{runs} trained models", f"{parts['train']['classes']} classes"]
    told += [f"{parts['train']['pictures']} real training pictures", f"{parts['test']['pictures']} test"]
    others = {"shifted": "shifted", "near_test": "near-OOD", "far_test": "far-OOD"}
    told += [f"{parts[p]['pictures']} {name}" for p, name in others.items() if p in parts]
    return page.document(title, ", ".join(told) + ".", sections)
