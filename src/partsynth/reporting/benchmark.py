"""The benchmark's page: Markdown, every number and sentence from its summary."""

from __future__ import annotations

from typing import Any

from partsynth.errors import UserError
from partsynth.evaluation.results import BenchmarkRun, BenchmarkSummary, Summary
from partsynth.reporting.format import metrics_in, reasons
from partsynth.reporting.render import render

HEADS = {"main": "Setups", "control": "Controls", "ablation": "Ablations"}


def page(summary: BenchmarkSummary, stem: str) -> str:
    """The page of the files named ``stem``.

    Raises
    ------
    UserError
        where the summary says nothing of its run, as one recomputed from predictions alone.
    """
    if summary.benchmark is None:
        raise UserError("a summary of predictions alone has no page: partsynth benchmark writes it")
    return render(
        "benchmark.md.j2",
        stem=stem,
        summary=summary,
        run=summary.benchmark,
        whole=sum(replicate.shots is None for replicate in summary.benchmark.replicates),
        tables=[table(summary, kind) for kind in HEADS if kind in summary.kinds.values()],
        headline=metrics_in(summary, "benchmark"),
        titles=summary.titles(),
        curve=curve(summary),
        few_order=next(iter(summary.few_shot.values())).order if summary.few_shot else [],
        absent=reasons(summary.absent),
        minutes=minutes(summary.benchmark),
    )


def table(summary: BenchmarkSummary, kind: str) -> dict[str, Any]:
    """Setups of one kind: their metrics, what they are compared with, and what that says."""
    names = [name for name in summary.order if summary.kinds[name] == kind]
    metrics = [metrics_in(summary, "benchmark"), *([metrics_in(summary, "benchmark_more")] if kind == "main" else [])]
    return {
        "kind": kind,
        "head": HEADS[kind],
        "names": names,
        "metrics": [[m for m in some if any(m.name in summary.setups[name] for name in names)] for some in metrics],
        "pairs": [pair for pair in summary.compared if pair[0] in names],
        "sentences": [s for s in summary.verdict if s.setup in names and (kind == "main" or s.main)],
    }


def curve(summary: BenchmarkSummary) -> dict[float, Summary]:
    """Training images per class -> figures, ascending, the whole replicates among them. Empty where all have the same
    number."""
    if not summary.few_shot:
        return {}
    found = {float(shots): of for shots, of in summary.few_shot.items()} | {summary.shots_of_all: summary}
    return {shots: found[shots] for shots in sorted(found)}


def minutes(run: BenchmarkRun) -> dict[str, float]:
    """By stage, all replicates together."""
    found: dict[str, float] = {}
    for replicate in run.replicates:
        for name, seconds in replicate.seconds.stages.items():
            stage = name.partition("@")[0]
            found[stage] = found.get(stage, 0) + seconds / 60
    return found
