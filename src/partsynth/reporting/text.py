"""The main table and the differences as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


def render_table(summary: dict[str, Any]) -> str:
    """The main table and the differences as plain text, in percent and points."""
    setups = summary["order"]
    titles = {about["name"]: about["title"] for about in summary["metrics"]}
    lines = [f"{'':38}" + "".join(f"{s:>28}" for s in setups)]
    for metric, title in titles.items():
        cells = (summary["setups"][s].get(metric) for s in setups)
        lines.append(f"{title:38}" + "".join(f"{_cell(c, 1):>28}" for c in cells))
    for pair, found in summary["differences"].items():
        lines += ["", f"{pair} (points)"]
        lines += [f"  {titles[m]:36}{_cell(found[m], 1, sign=True):>28}" for m in titles if m in found]
    lines += ["", *(sentence["text"] for sentence in summary["verdict"])]
    for shots, few in summary.get("few_shot", {}).items():
        lines += ["", f"{shots} training pictures a class", render_table(few)]
    lines += [f"{m}: absent, {reason}" for m, reason in summary["absent"].items()]
    return "\n".join(lines)


def _cell(found: dict[str, Any] | None, digits: int, sign: bool = False) -> str:
    if found is None:
        return "-"
    form = f"{'+' if sign else ''}.{digits}f"
    if found["low"] is None:
        return f"{100 * found['mean']:{form}}"
    return f"{100 * found['mean']:{form}} [{100 * found['low']:{form}}, {100 * found['high']:{form}}]"
