"""The rule of what an image may be made from: asked of its method, and checked against one state of the data.

`audit verify` asks it of every image in the workspace, `audit image` of one image in any version.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from partsynth.audit.tokens import LearnedToken
from partsynth.augmentation.method import ADAPTATION, BASE, SOURCE, TOKEN, Parent
from partsynth.records.rows import AugmentedRecord, RealRecord
from partsynth.seams import METHODS
from partsynth.store.base_model import with_adaptation
from partsynth.store.layout import REAL


class Holder(Protocol):
    """The state of the data that an image's parents are looked for in."""

    def real_image(self, path: str) -> RealRecord | None:
        """The row of data/real's manifest."""

    def sha256(self, path: str) -> str | None:
        """Of a file; None where there is none."""

    def token(self, path: str) -> LearnedToken | None:
        """A token file's provenance; None where it has none."""


def parents_of(row: AugmentedRecord) -> list[Parent]:
    """What the image was made from, as its method tells."""
    return METHODS[row.method].parents(row)


def parent_faults(row: AugmentedRecord, holder: Holder) -> Iterator[str]:
    """Sources are training images, the first of the row's class and group, further ones of those that the method tells
    (as tokens of other classes are), and every parent is there as it was."""
    parents = parents_of(row)
    tuned = next((parent.sha256 for parent in parents if parent.kind == ADAPTATION), None)
    bases = {with_adaptation(parent.sha256, tuned) for parent in parents if parent.kind == BASE}
    for parent in parents:
        if parent.kind == SOURCE:
            yield from _source_faults(row, parent, holder.real_image(parent.path))
        elif parent.kind != BASE:
            here = holder.sha256(parent.path)
            if here != parent.sha256:
                state = "missing" if here is None else "another one now"
                yield f"the {parent.kind} it was made with ({parent.sha256}) is {state}: {parent.path}"
            elif parent.kind == TOKEN:
                yield from _token_faults(parent.class_name or row.class_name, bases, holder.token(parent.path))


def _source_faults(row: AugmentedRecord, parent: Parent, source: RealRecord | None) -> Iterator[str]:
    if source is None:
        yield f"its parent {parent.path} is not in {REAL}/manifest.csv"
        return
    if source.split != "train" or source.role != "target":
        yield f"its parent {parent.path} is a {source.split} image, not a training image"
    if source.sha256 != parent.sha256:
        yield f"its parent {parent.path} had sha256 {parent.sha256}, now {source.sha256}"
    further = bool(parent.class_name or parent.group)
    if source.class_name != (told := parent.class_name or row.class_name):
        whose = f"the class of its parent {parent.path}" if further else "its class"
        yield f"{whose} is {told}, its parent's is {source.class_name}"
    if source.group != (group := parent.group or row.source_group):
        whose = f"the group of its parent {parent.path}" if further else "its group"
        yield f"{whose} is {group!r}, its parent's is {source.group!r}"


def _token_faults(class_name: str, bases: set[str], token: LearnedToken | None) -> Iterator[str]:
    if token is None:
        yield "the token it was made with does not say what it was learned from"
        return
    if token.class_name != class_name:
        yield f"it was made with the token of {token.class_name}"
    if bases and token.base_sha256 not in bases:
        yield f"its base {', '.join(sorted(bases))} is not its token's {token.base_sha256}"
