"""Hyper-parameter studies: what `study show` prints."""

from __future__ import annotations

from typing import Any

from partsynth.reporting import figures
from partsynth.reporting.inputs import Contents


def values(contents: Contents) -> dict[str, Any] | None:
    return {"studies": [about(study) for study in contents.studies]} if contents.studies else None


def about(study: dict[str, Any]) -> dict[str, Any]:
    """A study as the template shows it; the most accurate trials first, whatever the limits say."""
    complete = [t for t in study["trials"] if t["state"] == "COMPLETE"]
    complete.sort(key=lambda t: (-t["val_accuracy"], t["number"]))
    return {
        "study": study,
        "complete": complete,
        "again": next((len(t["retrained"]["seeds"]) for t in complete if t.get("retrained")), 0),
        "drawn": figures.study(study) if complete else None,
        "parameters": sorted({name for t in study["trials"] for name in t["params"]}),
    }
