"""Stage ``select``: one training table per setup, made of the table before it and one set in one role."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from partsynth.config.training import SelectSetup
from partsynth.errors import UserError, listed
from partsynth.records.augmented import read_augmented
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.review import DECISIONS, ReviewRecord, read_review
from partsynth.records.rows import AugmentedRecord, RealRecord, SelectedRecord
from partsynth.selection.leaks import leaks
from partsynth.selection.reviewed import obeyed
from partsynth.selection.table import chosen, read_verdicts, selected


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """For ``onto``, ``verdicts`` and ``review``, None or a folder (of a name without .csv) stands for none."""

    params: SelectSetup
    setup: str
    onto: Path | None  # table of the setup before
    manifest: Path  # of the set; where it is ``real`` itself, its training images are added as real ones
    verdicts: Path | None  # on the set's images
    real: Path  # the real images' manifest
    review: Path | None = None  # what people decided about the set's images
    out: Path  # the table, is written


def run(inputs: Inputs) -> None:
    """Write ``out``: the rows of ``onto`` and those images of ``manifest`` that the rule takes.

    An edit of a real image that the table lacks is left out. ``max_per_class`` keeps the lowest percentiles, of images
    without any those that come first by hash. What people decided about an image of these bytes stands above its
    verdict (``selection.reviewed``). With role negative, real images are negatives of other classes
    (``train.negative_scope: other``).

    Raises
    ------
    UserError
        where an image's source is no training image, where its group is also in val, test or shifted, where it has no
        verdict or that of another content, and where it is in the table already (a real image: in this role).
    """
    params = inputs.params
    real_rows = read_manifest(inputs.real, RealRecord)
    onto, verdicts = _table(inputs.onto), _table(inputs.verdicts)
    before = [] if onto is None else read_manifest(onto, SelectedRecord)
    rows: Sequence[RealRecord | AugmentedRecord]
    if os.path.realpath(inputs.manifest) == os.path.realpath(inputs.real):
        rows = [row for row in real_rows if row.split == "train"]
    else:
        rows = read_augmented(inputs.manifest)
    images = [selected(row, params.role) for row in rows]
    if faults := leaks([*before, *images], real_rows):
        tables = " and ".join(str(path) for path in (onto, inputs.manifest) if path is not None)
        raise UserError(f"{inputs.out} is not written, {len(faults)} fault(s) in {tables}:\n  {listed(faults)}")
    judged = None if verdicts is None else read_verdicts(images, verdicts)
    sources = {row.path for row in before if row.origin == "real"}
    review = _table(inputs.review)
    told = [] if review is None else read_review(review)
    decisions = obeyed(told, images)
    taken = chosen(images, judged, sources, params, inputs.setup, decisions)
    table = [*before, *taken]
    write_manifest(inputs.out, table, SelectedRecord)
    _tell(inputs, len(images), taken, table)
    _tell_review(told, decisions)


def _table(path: Path | None) -> Path | None:
    return None if path is None or (path.is_dir() and path.suffix != ".csv") else path


def _tell(inputs: Inputs, count: int, taken: Sequence[SelectedRecord], table: Sequence[SelectedRecord]) -> None:
    setup, role, rule = inputs.setup, inputs.params.role, inputs.params.rule
    if not taken:
        print(f"select: {setup}: rule {rule!r} leaves none of {count} images: it trains as the one before")
    else:
        print(f"select: {setup}: {len(taken)} of {count} images as {role}s by rule {rule!r}")
    origins = Counter((r.origin, r.role) for r in table)
    print("select: " + ", ".join(f"{n} {origin} {role}" for (origin, role), n in sorted(origins.items())))


def _tell_review(told: Sequence[ReviewRecord], decisions: Mapping[str, ReviewRecord]) -> None:
    if not told:
        return
    counts = Counter(decision.decision for decision in decisions.values())
    words = ", ".join(f"{counts[name]} {name}" for name in DECISIONS if counts[name]) or "none"
    stale = len({row.image for row in told} - {row.image for row in decisions.values()})
    others = f"; {stale} on images of other bytes are not obeyed" if stale else ""
    print(f"select: people's decisions: {words}{others}")
