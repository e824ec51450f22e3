"""What people decided about the images, beside the gate's verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from partsynth.records.review import ReviewRecord, decided, image_of
from partsynth.reporting.agreement import Agreement, agreement
from partsynth.reporting.inputs import Contents
from partsynth.reporting.thumbnails import Thumbnail, thumbnail
from partsynth.store.files import read_json


@dataclass(frozen=True)
class Reviewed:
    """One set that people looked at."""

    agreement: Agreement
    differing: list[Thumbnail]  # images that they judged otherwise than the gate


def values(contents: Contents) -> dict[str, Any] | None:
    found = {name: one for name in contents.reviews if (one := reviewed(contents, name)) is not None}
    return {"sets": found} if found else None


def reviewed(contents: Contents, name: str) -> Reviewed | None:
    """None where no decision is on an image as it is now."""
    verdicts = contents.verdicts.get(name, {})
    final = decided(contents.reviews[name])
    decisions = {v.path: final[image_of(v)] for v in verdicts.values() if image_of(v) in final}
    if not decisions:
        return None
    judged = sorted(verdicts.values(), key=lambda v: (-v.percentile, -v.drift, v.path))
    differing = [v for v in judged if v.path in decisions and _differs(decisions[v.path], bool(v.reasons))]
    root, most = contents.inputs.root, contents.inputs.params.sheet_pictures
    return Reviewed(
        agreement=agreement(judged, decisions, _limit(contents, name)),
        differing=[thumbnail(root, v, f"{v.class_name}: {said(decisions[v.path])}", v) for v in differing[:most]],
    )


def said(decision: ReviewRecord) -> str:
    """What a person decided, in a few words."""
    what = decision.told.replace("_", " ", 1)
    return f"{what}, {decision.reviewer}" + (f" ({decision.reason})" if decision.reason else "")


def _differs(decision: ReviewRecord, flagged: bool) -> bool:
    return decision.decision != "unsure" and (decision.decision == "accept") == flagged


def _limit(contents: Contents, name: str) -> float | None:
    """The threshold that the set was judged with, as its quality page says."""
    suite = contents.inputs.quality / name / "suite.json"
    limit = read_json(suite).get("params", {}).get("accept_percentile") if suite.is_file() else None
    return None if limit is None else float(limit)
