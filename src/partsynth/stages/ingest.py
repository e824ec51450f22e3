"""Stage ``ingest``: real photographs in; framed images with splits and groups, and the OOD images, out.

Every photograph is read once and everything is checked before the first file is written, so that a fault leaves what
was there before.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from partsynth.config.data import Ingest, Ood
from partsynth.errors import UserError, listed
from partsynth.records.manifest import write_manifest
from partsynth.records.rows import RealRecord
from partsynth.sources.base import Fault, Found
from partsynth.sources.duplicates import duplicate_faults, find_duplicates
from partsynth.sources.find import find
from partsynth.sources.frame import Framed, frame_all
from partsynth.sources.scratch import Scratch
from partsynth.sources.splits import assign, hold_out
from partsynth.sources.write import write
from partsynth.store.files import write_csv
from partsynth.store.layout import MANIFEST, Layout

LISTED = 40  # faults named in one error


@dataclass(frozen=True, kw_only=True)
class Inputs:
    params: Ingest
    ood_params: Ood
    raw: Path  # the source folder
    real: Path  # is written
    ood: Path  # is written
    root: Path  # of the project


def run(inputs: Inputs) -> None:
    """Read ``raw``, write ``real`` (images, masks, manifest.csv, duplicates.csv, skipped.csv) and ``ood``.

    Raises
    ------
    UserError
        naming every fault of the source at once: unreadable images, missing masks, empty or too small classes,
        duplicates across splits. Nothing has been written then.
    """
    params = inputs.params
    found = find(inputs.raw, params, inputs.ood_params, inputs.root)
    with Scratch(inputs.real.parent) as scratch:
        framed, unreadable = frame_all(found.photos, inputs.raw, params, scratch)
        framed = _without_taken_down(framed, params)
        framed, unknown = hold_out(framed, found.folders, inputs.ood_params)
        assigned = assign(framed, params)
        if assigned.known:
            print(f"ingest: {assigned.known} held-out images left out: their groups are trained on or shifted")
        pairs = find_duplicates(assigned.framed, params.near_duplicate)
        faults = [*found.faults, *unreadable, *unknown, *assigned.faults]
        if params.on_duplicate == "fail":
            faults += duplicate_faults(pairs)
        elif pairs:
            print(f"ingest: {len(pairs)} duplicate pairs, listed in duplicates.csv")
        _refuse(faults, inputs.raw, keep_going=params.on_bad == "skip")
        rows = write(assigned.framed, scratch, inputs.real, inputs.ood, Layout(inputs.root))
    write_csv(inputs.real / "duplicates.csv", ("path_a", "path_b", "kind", "bits"), [pair.row for pair in pairs])
    if params.on_bad == "skip":
        skipped = sorted({(fault.name, fault.reason) for fault in faults if not fault.fatal} | _left_out(found))
        write_csv(inputs.real / "skipped.csv", ("name", "reason"), skipped)
        if skipped:
            print(f"ingest: {len(skipped)} skipped, listed in {inputs.real / 'skipped.csv'}")
    if params.taken_down:  # the data's version remembers them, the photographs are gone
        write_csv(inputs.real / "taken_down.csv", ("sha256", "note"), sorted(params.taken_down.items()))
    write_manifest(inputs.ood / MANIFEST, [r for r in rows if r.role != "target"], RealRecord)
    write_manifest(inputs.real / MANIFEST, [r for r in rows if r.role == "target"], RealRecord)
    _tell(rows)
    _tell_summary(found, assigned.framed, faults)
    for key in _unwatched(inputs):
        print(f"ingest: DVC does not watch {key}: `partsynth upgrade` writes it into dvc.yaml")


def _without_taken_down(framed: Sequence[Framed], params: Ingest) -> list[Framed]:
    """A photograph that was taken down stays out, whoever brought it back and under whatever name."""
    for one in framed:
        if one.source_sha256 in params.taken_down:
            note = params.taken_down[one.source_sha256]
            print(f"ingest: WARNING: {one.photo.name} left out: it was taken down ({note}); delete the file")
    return [one for one in framed if one.source_sha256 not in params.taken_down]


def _refuse(faults: Sequence[Fault], raw: Path, keep_going: bool) -> None:
    grave = sorted({(f.name, f.reason) for f in faults if f.fatal or not keep_going})
    if not grave:
        return
    told = listed([f"{name}: {reason}" for name, reason in grave], LISTED)
    hint = "" if keep_going or all(f.fatal for f in faults) else "\n(ingest.on_bad: skip leaves bad images out)"
    raise UserError(f"{raw} has {len(grave)} fault(s):\n  {told}{hint}")


def _tell(rows: Sequence[RealRecord]) -> None:
    counts = Counter(r.split if r.role == "target" else f"{r.role}/{r.split}" for r in rows)
    classes = len({r.class_name for r in rows if r.role == "target"})
    print(f"ingest: {classes} classes, " + ", ".join(f"{n} {s}" for s, n in sorted(counts.items())))
    if not any(r.role != "target" for r in rows):
        print("ingest: no out-of-distribution images (ood.holdout_classes and ood.far name some)")


def _unwatched(inputs: Inputs) -> list[str]:
    """Keys that name photographs which dvc.yaml, where there is one, does not, so that no change of theirs is seen."""
    graph = inputs.root / "dvc.yaml"
    text = graph.read_text(encoding="utf-8") if graph.is_file() else None
    named = {"ingest.shifted": inputs.params.shifted, "ood.far": inputs.ood_params.far}
    return [key for key, path in named.items() if path and text is not None and f"${{{key}}}" not in text]


def _left_out(found: Found) -> set[tuple[str, str]]:
    """Rows of skipped.csv for photographs that could not be read for their format. The data's version depends on that
    file, so that rubbish of file systems is not listed in it."""
    return {(left.name, left.kind) for left in found.left if "(" in left.kind and left.kind.startswith((".", "HEIF"))}


def _tell_summary(found: Found, framed: Sequence[Framed], faults: Sequence[Fault]) -> None:
    """What was read, what was noted, what was left out and why, by kind and number."""
    endings = Counter(PurePosixPath(photo.name).suffix.lower().strip() or "without ending" for photo in found.photos)
    print(f"ingest: read {len(found.photos)} images ({_counted(endings)}), used {len(framed)}")
    for note, number in sorted(Counter(note for f in framed for note in f.notes).items()):
        print(f"ingest: note: {number} {note}")
    if kinds := Counter(left.kind for left in found.left):
        print(f"ingest: left out: {_counted(kinds)}")
    if reasons := Counter(_kind(f) for f in faults if not f.fatal):
        print(f"ingest: skipped: {_counted(reasons)}")


def _kind(fault: Fault) -> str:
    """What is wrong, without the names and numbers of one image."""
    what, _, rest = fault.reason.partition(": ")
    if what.startswith("mask "):
        what = f"mask {rest.partition(': ')[0]}"
    return re.sub(r"\d+", "N", what.partition(" (")[0])


def _counted(counts: Counter[str]) -> str:
    return ", ".join(
        f"{number} {what}" for what, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )
