"""What ingest will find: photographs listed by their names alone, before any is opened."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from partsynth.config.params import Params
from partsynth.errors import UserError, listed
from partsynth.project.findings import Findings
from partsynth.sources.base import Fault, Photo
from partsynth.sources.find import find
from partsynth.sources.splits import held_out

NUMBERED = r"/(.+)[ _-]\d+\.\w+$"  # of <class>/<file>: the file's name without its last number
NAMED = 5  # faults in one sentence


def look(root: Path, parameters: Params, found: Findings) -> None:
    """Classes and photographs that the source, ``ingest.shifted`` and ``ood.far`` hold, and what ingest would refuse
    for its name or place."""
    params = parameters.ingest
    try:
        there = find(root / params.path, params, parameters.ood, root)
    except UserError as error:
        found.faults.append(f"ingest: {error}")
        return
    held, unknown = held_out(there.folders, parameters.ood)
    every = [*there.faults, *unknown]
    faults = [f for f in every if f.fatal or params.on_bad == "fail"]
    skipped = [f for f in every if f not in faults]
    if faults:
        found.faults.append(f"ingest: {params.path} has {len(faults)} fault(s): {_named(faults)}")
    own = [photo for photo in there.photos if photo.role != "far_ood" and photo.split != "shifted"]
    classes = {photo.class_name for photo in own if photo.role == "target"} - held
    if not faults and len(classes) < 2:
        left_out = f" (left out: {_named(skipped)})" if skipped else ""
        few = f"{len(classes)} classes to tell apart, at least two are needed"
        found.faults.append(f"ingest: {params.path}: {few}{left_out}")
    words = [f"{len(classes)} classes, {len(own)} photographs"]
    words += [f"held out as near-OOD: {', '.join(sorted(held))}"] if held else []
    words += [f"{n} shifted" for n in [sum(photo.split == "shifted" for photo in there.photos)] if n]
    words += [f"{n} far-OOD" for n in [sum(photo.role == "far_ood" for photo in there.photos)] if n]
    words += [f"{len(skipped)} to be skipped, the first {skipped[0].name}: {skipped[0].reason}"] if skipped else []
    found.in_order.append(f"ingest.path: {params.path}: {'; '.join(words)}")
    if params.source == "folder" and params.group_pattern is None and (example := numbered(own)):
        found.in_order.append(
            f"ingest.group_pattern: names as {example} look like several images of one part; where they are, "
            f"'{NUMBERED}' keeps them in one split"
        )


def _named(faults: Sequence[Fault]) -> str:
    return listed(sorted(f"{f.name}: {f.reason}" for f in faults), NAMED)


def numbered(photos: Sequence[Photo]) -> str | None:
    """Two names that differ in their last number alone, where most names do in groups of a few; None elsewhere.

    A camera's running number (IMG_0001) makes one group of all, and is no sign.
    """
    spots: dict[tuple[str, str], list[str]] = defaultdict(list)
    for photo in photos:
        if match := re.search(NUMBERED, photo.name):
            spots[photo.class_name, match[1]].append(photo.name.rpartition("/")[2])
    several = [names for names in spots.values() if 2 <= len(names) <= 12]
    if sum(map(len, several)) < len(photos) / 2 or len(several) < 2:
        return None
    return " and ".join(sorted(several[0])[:2])
