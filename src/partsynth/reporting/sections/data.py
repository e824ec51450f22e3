"""How much there was of what, and hashes of all of it."""

from __future__ import annotations

from typing import Any

from partsynth.reporting.format import PARTS, part_title
from partsynth.reporting.inputs import Contents


def values(contents: Contents) -> dict[str, Any]:
    summary, parts = contents.summary, contents.data.parts
    configs = [flat(run.config) for run in summary.runs]
    shared = {k: v for k, v in configs[0].items() if all(c.get(k) == v for c in configs)} if configs else {}
    order = [*(p for p in PARTS if p in parts), *(p for p in parts if p not in PARTS)]
    return {
        "parts": {part_title(part): parts[part] for part in order},
        "shared": shared,
        "hashes": contents.data.manifests | {"predictions.csv": summary.predictions_sha256},
        "runs": summary.runs,
        "card": contents.card.told() if contents.card else {},
    }


def flat(value: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested keys joined by dots."""
    found: dict[str, str] = {}
    for key, inner in value.items():
        found |= flat(inner, f"{prefix}{key}.") if isinstance(inner, dict) else {f"{prefix}{key}": str(inner)}
    return found
