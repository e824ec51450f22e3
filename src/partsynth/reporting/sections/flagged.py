"""What the quality stage flagged, and what it accepted."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from partsynth.core.sampling import spread
from partsynth.reporting.inputs import Contents
from partsynth.reporting.thumbnails import Thumbnail, thumbnail


@dataclass(frozen=True)
class Judged:
    """The judged images of one set."""

    name: str
    flagged: int
    accepted: int
    docs: str | None  # where Great Expectations' page lies, relative to this one
    sheets: dict[str, list[Thumbnail]]  # heading -> images


def values(contents: Contents) -> dict[str, Any] | None:
    judged = [judge(contents, name) for name in contents.sets if contents.verdicts.get(name)]
    return {"sets": judged} if judged else None


def judge(contents: Contents, name: str) -> Judged:
    inputs, there = contents.inputs, {r.path for r in contents.sets[name]}
    verdicts = [v for v in contents.verdicts[name].values() if v.path in there]
    flagged = sorted((v for v in verdicts if v.verdict != "accept"), key=lambda v: (-v.drift, v.path))
    accepted = sorted((v for v in verdicts if v.verdict == "accept"), key=lambda v: (v.drift, v.path))
    most, docs = inputs.params.sheet_pictures, inputs.quality / name / "data_docs" / "index.html"
    sheets = {"Flagged, farthest first": flagged[:most], "Accepted, from least to most drift": spread(accepted, most)}
    return Judged(
        name=name,
        flagged=len(flagged),
        accepted=len(accepted),
        docs=os.path.relpath(docs, inputs.out.parent) if docs.exists() else None,
        sheets={
            heading: [thumbnail(inputs.root, v, v.class_name, v) for v in some]
            for heading, some in sheets.items()
            if some
        },
    )
