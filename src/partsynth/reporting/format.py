"""Figures, ranges and captions as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SIGNS = {"helps": "▲", "hurts": "▼", "no evidence": "●", "one seed": "○"}


def short_hash(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def drawable(column: pd.Series) -> bool:
    return column.dtype.kind in "if" and column.notna().sum() > 1 and column.nunique() > 1


def flat(value: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found = {}
    for key, inner in value.items():
        found |= flat(inner, f"{prefix}{key}.") if isinstance(inner, dict) else {f"{prefix}{key}": str(inner)}
    return found


def titles_of(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {about["name"]: about for about in summary["metrics"]}


def interval_text(found: dict[str, Any] | None) -> str:
    if found is None:
        return "absent"
    below = (
        "" if found["low"] is None else f"<small>{percent_text(found['low'])} to {percent_text(found['high'])}</small>"
    )
    return f"{percent_text(found['mean'])}{below}"


def percent_text(value: float) -> str:
    return f"{100 * value:.1f}".replace("-", "\N{MINUS SIGN}")


def points_text(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")


def range_text(found: dict[str, Any]) -> str:
    return "–" if found["low"] is None else f"{points_text(found['low'])} to {points_text(found['high'])}"


def arrow(more_is_better: bool | None) -> str:
    return "" if more_is_better is None else " ↑" if more_is_better else " ↓"


def spoken(panels: dict[str, dict[str, dict[str, Any]]]) -> str:
    return "; ".join(
        f"{title}: " + ", ".join(f"{s} {100 * f['mean']:.1f}" for s, f in found.items())
        for title, found in panels.items()
    )
