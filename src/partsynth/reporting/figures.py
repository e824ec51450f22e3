"""Figures for the report: values in, SVG bytes out, the same bytes for the same values (no dates, no random ids)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from partsynth.reporting.format import curve_title

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from partsynth.evaluation.results import Difference, Interval

# Okabe & Ito's colours, dark enough on white, with a marker and a dash each: nothing is told by colour alone
COLOURS = ("#0072B2", "#C14A09", "#00795A", "#9B4F82", "#5E5E5E", "#8A6D00", "#2B8CBE", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), "-")
INK = "#1c2126"
BELOW: Any = {
    "loc": "upper center",
    "bbox_to_anchor": (0.5, -0.2),
    "ncols": 3,
    "columnspacing": 1,
    "handletextpad": 0.4,
}
STYLE: Any = {
    "svg.hashsalt": "partsynth",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#6b7280",
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.8,
}


def figure(width: float, height: float) -> Figure:
    """A matplotlib figure (inches) without a window or global state."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasSVG(made)
    return made


def svg(made: Figure) -> bytes:
    buffer = io.BytesIO()
    made.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight", pad_inches=0.06)
    return buffer.getvalue()


def styled(function: Any) -> Any:
    """Draw under ``STYLE``, leaving matplotlib's settings as they were."""

    def drawn(*args: Any, **kwargs: Any) -> bytes:
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return svg(function(*args, **kwargs))

    return drawn


@styled
def intervals(panels: Mapping[str, Mapping[str, Interval]]) -> Figure:
    """One panel per metric, ``panels[title][setup]``: each setup's seeds (hollow), mean and interval."""
    setups = list(next(iter(panels.values())))
    made = figure(10, 1.0 + 0.36 * len(setups))
    axes = made.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (title, found) in zip(axes, panels.items(), strict=True):
        for row, setup in enumerate(setups):
            entry, colour = found[setup], COLOURS[row % 8]
            values = [100 * v for v in entry.values]
            axis.plot(values, [row + 0.2] * len(values), ls="", marker="o", ms=4, mfc="white", mec=colour)
            if entry.low is not None and entry.high is not None:
                axis.plot([100 * entry.low, 100 * entry.high], [row, row], color=colour, lw=2.4)
            axis.plot(100 * entry.mean, row, marker=MARKERS[row % 8], ms=7, color=colour)
        axis.set_title(title)
        axis.set_xlabel("%")
        axis.set_yticks(range(len(setups)), setups)
        axis.set_ylim(len(setups) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
    return made


@styled
def forest(pairs: Mapping[str, Mapping[str, Difference]]) -> Figure:
    """Paired differences in points with their intervals around 0: ``pairs[pair][metric's title]``."""
    rows = sum(len(found) for found in pairs.values())
    made = figure(10, 1.1 + 0.27 * rows + 0.5 * len(pairs))
    axes = made.subplots(
        len(pairs),
        1,
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": [len(found) + 0.6 for found in pairs.values()]},
    )[:, 0]
    for axis, (pair, found) in zip(axes, pairs.items(), strict=True):
        for row, entry in enumerate(found.values()):
            if alone := entry.seeds_alone:
                axis.plot([100 * alone.low, 100 * alone.high], [row + 0.26] * 2, color="#9aa1ab", lw=1.6)
            if entry.low is not None and entry.high is not None:
                axis.plot([100 * entry.low, 100 * entry.high], [row, row], color=COLOURS[0], lw=2.4)
            axis.plot(100 * entry.mean, row, "o", ms=6, color=COLOURS[0])
        axis.axvline(0, color=INK, lw=1)
        axis.set_title(pair)
        axis.set_yticks(range(len(found)), list(found))
        axis.set_ylim(len(found) - 0.4, -0.6)
        axis.grid(axis="y", visible=False)
    axes[-1].set_xlabel("difference in points; thick: interval over seeds and parts, thin grey: over seeds alone")
    return made


@styled
def curves(panels: Mapping[str, pd.DataFrame]) -> Figure:
    """ROC: ``panels[title]`` has a column "fpr" and one per setup."""
    made = figure(4.6 * max(len(panels), 1), 4.0)
    axes = made.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, table) in zip(axes, panels.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="#9aa1ab", lw=1)
        for index, setup in enumerate([c for c in table.columns if c != "fpr"]):
            axis.plot(table["fpr"], table[setup], color=COLOURS[index % 8], ls=DASHES[index % 8], label=setup)
        axis.axhline(0.95, color="#9aa1ab", lw=0.8, ls=":")
        axis.set_title(title)
        axis.set_xlabel("OOD images accepted")
        axis.set_ylabel("test images kept")
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1.01)
        axis.set_aspect("equal")
        axis.legend(loc="lower right")
    return made


@styled
def confusion(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Row-normalised confusion, one panel per setup; ``tables[setup]`` has columns "actual" and "predicted"."""
    classes = sorted({name for t in tables.values() for name in {*t["actual"], *t["predicted"]}})
    columns = min(len(tables), 3 if len(classes) <= 12 else 2 if len(classes) <= 24 else 1)
    rows = -(-len(tables) // columns)
    made = figure(11, 11 / columns * rows + 1.2)
    axes = made.subplots(rows, columns, squeeze=False, sharey=True)
    for axis in axes.flat[len(tables) :]:
        axis.set_visible(False)
    for axis, (setup, table) in zip(axes.flat, tables.items(), strict=False):
        where = {name: i for i, name in enumerate(classes)}
        counts = np.zeros((len(classes), len(classes)))
        np.add.at(counts, (table["actual"].map(where).to_numpy(), table["predicted"].map(where).to_numpy()), 1)
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axis.pcolormesh(share, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=0.5)
        if len(classes) <= 16:
            for i, j in zip(*np.nonzero(share >= 0.005), strict=True):
                axis.text(
                    j + 0.5,
                    i + 0.5,
                    f"{100 * share[i, j]:.0f}",
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color="white" if share[i, j] > 0.55 else INK,
                )
        axis.set_title(setup)
        axis.set_xlabel("predicted")
        axis.set_xticks(np.arange(len(classes)) + 0.5, classes, rotation=90, fontsize=8)
        axis.set_yticks(np.arange(len(classes)) + 0.5, classes, fontsize=8)
        axis.invert_yaxis()
        axis.set_aspect("equal")
        axis.grid(visible=False)
    for axis in axes[:, 0]:
        axis.set_ylabel("actual")
    return made


@styled
def embedding(table: pd.DataFrame) -> Figure:
    """Maps of features, one panel per setup: test images coloured by class, near- and far-OOD by marker."""
    import matplotlib

    setups = list(dict.fromkeys(table["setup"]))
    classes = sorted(set(table["class_name"][table["part"] == "test"]))
    columns = min(len(setups), 3)
    rows = -(-len(setups) // columns)
    made = figure(11, 11 / columns * rows + 0.45 * (1 + len(classes) // 6))
    axes = made.subplots(rows, columns, squeeze=False)
    palette = matplotlib.colormaps["tab20"](range(20))
    for axis in axes.flat[len(setups) :]:
        axis.set_visible(False)
    for axis, setup in zip(axes.flat, setups, strict=False):
        own = table[table["setup"] == setup]
        axis.set_facecolor("#f7f8fa")
        far, near = own[own["part"] == "far_test"], own[own["part"] == "near_test"]
        axis.plot(far["x"], far["y"], ls="", marker="+", ms=4.5, mec="#6b7280", label="far OOD")
        axis.plot(near["x"], near["y"], ls="", marker="x", ms=3.6, mec=INK, mew=0.9, label="near OOD")
        for index, name in enumerate(classes):
            rows_of = own[(own["part"] == "test") & (own["class_name"] == name)]
            axis.plot(
                rows_of["x"],
                rows_of["y"],
                ls="",
                marker="o",
                ms=4,
                mfc=palette[index % 20],
                mec="white",
                mew=0.4,
                label=name,
            )
        axis.set_title(setup)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    kept = [(h, text) for h, text in zip(handles, labels, strict=True) if len(h.get_xdata())]
    made.legend(*zip(*kept, strict=True), loc="outside lower center", ncols=6, fontsize=8.5, markerscale=1.4)
    return made


@styled
def drift(sets: Mapping[str, tuple[Sequence[float], Sequence[bool]]], threshold: float | None) -> Figure:
    """Histograms of drift on one scale, ``sets[name]`` = (drift, flagged for drift); dashed: the acceptance limit."""
    made = figure(10, 0.7 + 1.25 * len(sets))
    axes = made.subplots(len(sets), 1, sharex=True, squeeze=False)[:, 0]
    every = np.concatenate([np.asarray(d, dtype=float) for d, _ in sets.values()])
    low, high = np.quantile(every, [0, 0.99])
    bins = np.linspace(low, max(high, low + 1e-6), 41)
    for axis, (name, (values, flagged)) in zip(axes, sets.items(), strict=True):
        drifts, far = np.clip(np.asarray(values, dtype=float), low, bins[-1]), np.asarray(flagged, dtype=bool)
        axis.hist(
            [drifts[~far], drifts[far]],
            bins=bins,
            stacked=True,
            color=[COLOURS[0], COLOURS[1]],
            label=["within", "too far"],
        )
        if threshold is not None:
            axis.axvline(threshold, color=INK, lw=1.2, ls="--", label="limit")
        axis.set_title(f"{name} ({far.sum()} of {len(drifts)} too far)")
        axis.set_ylabel("images")
    axes[0].legend(loc="upper right")
    axes[-1].set_xlabel("drift from the real parts of its class (class standard deviations)")
    return made


@styled
def histories(table: pd.DataFrame, columns: Sequence[str]) -> Figure:
    """Training curves: one panel per column, one colour per setup, one line per seed. ``table`` has setup, seed, step.

    The width is that of three panels at least, so that figures of few have letters of the same size.
    """
    made = figure(11, 3.1)
    axes = made.subplots(1, max(len(columns), 3), squeeze=False)[0]
    for axis in axes[len(columns) :]:
        axis.set_visible(False)
    setups = list(dict.fromkeys(table["setup"]))
    for axis, column in zip(axes, columns, strict=False):
        for index, setup in enumerate(setups):
            for number, (_, rows) in enumerate(table[table["setup"] == setup].groupby("seed")):
                rows = rows.dropna(subset=[column])
                axis.plot(
                    rows["step"],
                    rows[column],
                    color=COLOURS[index % 8],
                    ls=DASHES[index % 8],
                    lw=1.3,
                    label=setup if number == 0 else None,
                )
        axis.set_title(curve_title(column))
        axis.set_xlabel("step")
    axes[0].legend()
    return made


@styled
def study(data: Mapping[str, Any]) -> Figure:
    """A study: history, trade-off of accuracy and near-OOD AUROC, importance; ``data`` as `study show` writes it."""
    complete = [t for t in data["trials"] if t["state"] == "COMPLETE"]
    traded = [t for t in complete if t.get("near_ood_auroc") is not None]
    importance = sorted(data["importance"].items(), key=lambda item: item[1])
    panels = 1 + bool(traded) + bool(importance)
    made = figure(11 if panels == 3 else 4 * panels, 3.6)
    axes = iter(made.subplots(1, panels, squeeze=False)[0])
    axis = next(axes)
    history = data["history"]
    axis.plot(
        [h["trial"] for h in history],
        [h["val_accuracy"] for h in history],
        ls="",
        marker="o",
        ms=4,
        mfc="white",
        mec=COLOURS[0],
        label="trial",
    )
    known = [(n, h["best"]) for n, h in enumerate(history) if h["best"] is not None]
    if known:
        axis.step(
            [history[n]["trial"] for n, _ in known],
            [b for _, b in known],
            where="post",
            color=COLOURS[1],
            label="best so far",
        )
    axis.set_title("history")
    axis.set_xlabel("trial")
    axis.set_ylabel("validation accuracy")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(**BELOW)
    if traded:
        axis = next(axes)
        kinds = {
            "limits kept": [t for t in traded if t["feasible"] and t["number"] not in data["pareto"]],
            "limits not kept": [t for t in traded if not t["feasible"]],
            "Pareto front": sorted(
                (t for t in traded if t["number"] in data["pareto"]), key=lambda t: t["val_accuracy"]
            ),
        }
        for index, (label, some) in enumerate(kinds.items()):
            if some:
                axis.plot(
                    [t["val_accuracy"] for t in some],
                    [t["near_ood_auroc"] for t in some],
                    label=label,
                    ms=5,
                    ls=":" if label == "Pareto front" else "",
                    marker=MARKERS[index],
                    color=COLOURS[index],
                )
        axis.set_title("trade-off")
        axis.set_xlabel("validation accuracy")
        axis.set_ylabel("near-OOD AUROC, validation")
        axis.legend(**BELOW)
    if importance:
        axis = next(axes)
        axis.barh(
            [name.replace("_", " ") for name, _ in importance], [share for _, share in importance], color=COLOURS[0]
        )
        axis.set_title("importance for accuracy")
        axis.set_xlim(0, 1)
        axis.grid(axis="y", visible=False)
    return made
