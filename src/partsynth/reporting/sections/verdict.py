"""What each change brought, in sentences; what could not be measured."""

from __future__ import annotations

from typing import Any

from partsynth.reporting.format import reasons
from partsynth.reporting.inputs import Contents


def values(contents: Contents) -> dict[str, Any]:
    summary = contents.summary
    changes: dict[tuple[str, str], list[Any]] = {}
    for sentence in summary.verdict:
        changes.setdefault((sentence.setup, sentence.base), []).append(sentence)
    return {"changes": list(changes.values()), "absent": reasons(summary.absent), "confidence": summary.confidence}
