"""What people decided about generated images (data/review/<set>.csv): one row per image and reviewer.

A decision is of the image's bytes: where a set is made anew, decisions on other bytes are no longer obeyed, and are
again once the old bytes are back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import StringConstraints, field_validator, model_validator

from partsynth.errors import UserError, listed
from partsynth.records.manifest import parse_manifest, read_text
from partsynth.records.rows import Record
from partsynth.store.shards import as_file

Decision = Literal["accept", "drop", "other_class", "unsure"]
DECISIONS: dict[Decision, str] = {
    "accept": "it shows a part of its class",
    "drop": "it is of no use, in whatever role",
    "other_class": "it shows a part, but of another class",
    "unsure": "the gate's verdict counts",
}
Image = tuple[str, str]  # path and sha256
Line = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^\r\n]*$")]


class ReviewRecord(Record):
    """What one person decided about one image; ``class_name`` is the image's own, as its manifest has it."""

    decision: Decision
    other_class: Line = ""  # that it shows instead, where the decision is other_class; empty where it was not named
    reviewer: Annotated[Line, StringConstraints(min_length=1)]
    time: str  # of the decision, ISO 8601 with its offset: 2026-11-26T09:30:00Z
    reason: Line = ""

    @property
    def key(self) -> tuple[str, ...]:
        return (as_file(self.path), self.reviewer)

    @property
    def image(self) -> Image:
        return image_of(self)

    @property
    def misplaced(self) -> str:
        """Nothing: a decision is held against the image's own row, which has the class."""
        return ""

    @property
    def told(self) -> str:
        """In words, as sentences name it."""
        return f"{self.decision} ({self.other_class})" if self.other_class else self.decision

    @field_validator("time")
    @classmethod
    def _moment(cls, value: str) -> str:
        if datetime.fromisoformat(value).tzinfo is None:
            raise ValueError(f"{value!r} has no offset from UTC, as in 2026-11-26T09:30:00Z")
        return value

    @model_validator(mode="after")
    def _another(self) -> ReviewRecord:
        if self.other_class and self.decision != "other_class":
            raise ValueError(f"other_class {self.other_class!r} needs the decision other_class, not {self.decision}")
        if self.other_class == self.class_name:
            raise ValueError(f"other_class is the image's own class {self.class_name!r}: that is the decision accept")
        return self


def image_of(row: Record) -> Image:
    """What a decision is about: bytes at a path, that of a file, so that it stays when its set goes into shards."""
    return as_file(row.path), row.sha256


def read_review(path: Path) -> list[ReviewRecord]:
    """The decisions in a file, as the page, `review apply` or a spreadsheet wrote it.

    Raises
    ------
    UserError
        naming every faulty line, or the images that reviewers contradict each other about.
    """
    rows = parse_manifest(read_text(path).removeprefix("\ufeff"), ReviewRecord, str(path))
    if faults := contradictions(rows):
        raise UserError(f"{path}: {listed(faults)}")
    return rows


def contradictions(rows: Iterable[ReviewRecord]) -> list[str]:
    """A sentence per image that two reviewers decided differently about. Unsure contradicts nothing, and neither does
    another class without a name."""
    faults = []
    for (path, _), decided in by_image(rows).items():
        firm = [row for row in decided if row.decision != "unsure"]
        named = {row.other_class for row in firm if row.other_class}
        if len({row.decision for row in firm}) > 1 or len(named) > 1:
            said = ", ".join(f"{row.reviewer} says {row.told}" for row in firm)
            faults.append(f"{path}: {said}")
    return faults


def by_image(rows: Iterable[ReviewRecord]) -> dict[Image, list[ReviewRecord]]:
    """Image -> its decisions, in the order of time."""
    found: dict[Image, list[ReviewRecord]] = {}
    for row in sorted(rows, key=lambda r: (datetime.fromisoformat(r.time), r.reviewer)):
        found.setdefault(row.image, []).append(row)
    return found


def decided(rows: Sequence[ReviewRecord]) -> dict[Image, ReviewRecord]:
    """Image -> the decision that counts, of rows without contradictions: a firm one before unsure, one that names the
    class before one that does not, then the first."""
    order = {"unsure": 2, "other_class": 1}
    return {
        image: min(found, key=lambda row: 0 if row.other_class else order.get(row.decision, 0))
        for image, found in by_image(rows).items()
    }
