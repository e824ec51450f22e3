"""Each setup minus each earlier one."""

from __future__ import annotations

from typing import Any

from partsynth.evaluation.format import estimate, points
from partsynth.reporting import figures
from partsynth.reporting.format import arrow, metrics_in
from partsynth.reporting.inputs import Contents


def values(contents: Contents) -> dict[str, Any] | None:
    summary = contents.summary
    if not summary.differences:
        return None
    drawn, titles = {}, summary.titles()
    for a, b in summary.pairs():
        found = {m.title + arrow(m): summary.difference(a, b, m.name) for m in metrics_in(summary, "differences")}
        drawn[f"{a} \N{MINUS SIGN} {b}"] = {title: d for title, d in found.items() if d is not None}
    return {
        "drawn": figures.forest(drawn),
        "alt": "; ".join(
            f"{pair}: {', '.join(f'{title} {estimate(d, points)}' for title, d in found.items())}"
            for pair, found in drawn.items()
        ),
        "pairs": [
            [d for name in titles if (d := summary.difference(a, b, name)) is not None] for a, b in summary.pairs()
        ],
        "titles": titles,
    }
