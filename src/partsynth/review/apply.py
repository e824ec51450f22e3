"""Decisions from a page's file into ``data/review/<set>.csv``: all of them, or, where one is at fault, none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from partsynth.errors import UserError, did_you_mean, listed
from partsynth.project.reviews import connect
from partsynth.records.augmented import read_augmented
from partsynth.records.manifest import parse_manifest, read_text, write_manifest
from partsynth.records.review import DECISIONS, ReviewRecord, by_image, contradictions, read_review
from partsynth.records.rows import AugmentedRecord
from partsynth.review.collect import known_classes
from partsynth.store import shards
from partsynth.store.hashing import sha256_bytes
from partsynth.store.layout import AUGMENTED, MANIFEST, NO_REVIEW, Layout

NOT_A_SET = Path(NO_REVIEW).stem


@dataclass(frozen=True)
class Applied:
    """What became of the decisions on one set."""

    set_name: str
    table: Path
    decisions: Counter[str]  # of the file, by kind
    new: int
    changed: int
    overruled: int  # other reviewers' decisions that gave way
    setups: list[str]  # that obey the table

    def lines(self, root: Path) -> list[str]:
        counts = ", ".join(f"{self.decisions[name]} {name}" for name in DECISIONS if self.decisions[name])
        overruled = f", {self.overruled} of other reviewers overruled" if self.overruled else ""
        obeyed = (
            f"obeyed by {', '.join(self.setups)}"
            if self.setups
            else "no setup of dvc.yaml adds this set: none obeys it"
        )
        return [
            f"{self.table.relative_to(root)}: {self.decisions.total()} decisions ({counts}); "
            f"{self.new} new, {self.changed} changed{overruled}; {obeyed}"
        ]


def apply(root: Path, file: Path, overrule: bool = False) -> list[Applied]:
    """Merge a file of decisions into the sets' tables, and have the setups of each set obey its table.

    A reviewer's later decision takes the place of the earlier one. ``overrule``: decisions of the file also take the
    place of those of other reviewers that contradict them.

    Raises
    ------
    UserError
        with every fault of the file: faulty lines, images of no set, images whose bytes changed since they were
        reviewed, unknown classes, contradictions. Nothing has been written then.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file; the page of a set gives one (partsynth review --out DIR)")
    rows = _latest(parse_manifest(read_text(file).removeprefix("\ufeff"), ReviewRecord, str(file), once=False))
    if not rows:
        raise UserError(f"{file} holds no decision: nothing to apply")
    layout = Layout(root)
    by_set = {name: [row for row in rows if _set_of(row) == name] for name in sorted({_set_of(row) for row in rows})}
    faults = contradictions(rows)
    classes = known_classes(layout)
    merged: dict[str, tuple[list[ReviewRecord], list[ReviewRecord], list[ReviewRecord]]] = {}
    for name, decisions in by_set.items():
        manifest = layout.augmentation_set(name) / MANIFEST
        known = {shards.as_file(row.path): row for row in read_augmented(manifest)} if manifest.is_file() else {}
        faults += _image_faults(root, decisions, known)
        faults += _class_faults(decisions, classes)
        before = read_review(layout.review(name)) if layout.review(name).is_file() else []
        kept, gone = _merge(before, decisions, overrule)
        if not contradictions(decisions):
            faults += contradictions([*kept, *decisions])
        merged[name] = before, kept, gone
    if NOT_A_SET in by_set and layout.augmentation_set(NOT_A_SET).is_dir():
        faults.append(f"a set named {NOT_A_SET!r} cannot be reviewed: {NO_REVIEW} stands for no review; rename the set")
    if faults:
        hint = ", or settle them with --overrule" if any(" says " in fault for fault in faults) else ""
        raise UserError(
            f"{file} is not applied, {len(faults)} fault(s){hint}:\n  {listed(list(dict.fromkeys(faults)))}"
        )
    done = []
    for name, decisions in by_set.items():
        before, kept, gone = merged[name]
        write_manifest(layout.review(name), [*kept, *decisions], ReviewRecord)
        replaced = {row.key for row in before}
        same = sum(row in before for row in decisions)
        done.append(
            Applied(
                set_name=name,
                table=layout.review(name),
                decisions=Counter(row.decision for row in decisions),
                new=sum(row.key not in replaced for row in decisions),
                changed=sum(row.key in replaced for row in decisions) - same,
                overruled=len(gone),
                setups=connect(root, name),
            )
        )
    return done


def _set_of(row: ReviewRecord) -> str:
    """By its path; a path of no set gives a name that no set has."""
    parts = Path(row.path).parts
    return parts[2] if Path(row.path).is_relative_to(AUGMENTED) and len(parts) > 3 else ""


def _latest(rows: Sequence[ReviewRecord]) -> list[ReviewRecord]:
    """One row per image and reviewer: the last by time, of equals the last of the file."""
    found: dict[tuple[str, ...], ReviewRecord] = {}
    for row in sorted(rows, key=lambda r: datetime.fromisoformat(r.time)):
        found[row.key] = row
    return [row for row in dict.fromkeys(rows) if found[row.key] is row or found[row.key] == row]


def _image_faults(root: Path, rows: Sequence[ReviewRecord], known: Mapping[str, AugmentedRecord]) -> list[str]:
    faults = []
    for path in dict.fromkeys(row.path for row in rows):
        decisions = [row for row in rows if row.path == path]
        image = known.get(shards.as_file(path))
        if image is None or any(row.class_name != image.class_name for row in decisions):
            faults.append(f"{path} ({decisions[0].class_name}) is no image of any set here")
        elif any(row.sha256 != image.sha256 for row in decisions):
            faults.append(f"{path} was made anew since it was reviewed (other bytes): review it again")
        elif not shards.exists(root, image.path) or sha256_bytes(shards.read(root, image.path)) != image.sha256:
            faults.append(f"{path} is missing or altered here, so the decision cannot be checked: dvc checkout")
    return faults


def _class_faults(rows: Sequence[ReviewRecord], classes: Sequence[str]) -> list[str]:
    unknown = {row.other_class: row for row in rows if row.other_class and row.other_class not in classes}
    return [
        f"{row.path}: there is no class {name!r}{did_you_mean(name, classes)}; it may stay empty where it is none "
        "of the project's"
        for name, row in sorted(unknown.items())
    ]


def _merge(
    before: Sequence[ReviewRecord], new: Sequence[ReviewRecord], overrule: bool
) -> tuple[list[ReviewRecord], list[ReviewRecord]]:
    """The earlier decisions that stay, and those of other reviewers that are overruled.

    Decisions on other bytes of an image give way to any on its present ones.
    """
    keys, images, paths = {row.key for row in new}, by_image(new), {row.image[0] for row in new}
    kept: list[ReviewRecord] = []
    gone: list[ReviewRecord] = []
    for row in before:
        if row.key in keys or (row.image[0] in paths and row.image not in images):
            continue
        if overrule and contradictions([row, *images.get(row.image, [])]):
            gone.append(row)
        else:
            kept.append(row)
    return kept, gone


def told(root: Path, done: Collection[Applied]) -> list[str]:
    """What was done and what comes next, as lines to print."""
    lines = [line for one in done for line in one.lines(root)]
    tables = " ".join(one.table.relative_to(root).as_posix() for one in done)
    return [*lines, "Next: dvc repro", f"Keep it with the version: git add {tables} {NO_REVIEW} dvc.yaml && git commit"]
