"""Rows of manifests of any version; only those that hold a text are parsed, so that 1,000,000 take a moment."""

from __future__ import annotations

import csv
import functools
import io
import re
from collections.abc import Iterator
from typing import TypeVar

from partsynth.audit.versions import Table, Version
from partsynth.errors import UserError
from partsynth.records.augmented import row_type
from partsynth.records.rows import AugmentedRecord, ImageRecord, RealRecord, Record
from partsynth.store.layout import MANIFEST, OOD, REAL

R = TypeVar("R", bound=Record)
SHA256 = re.compile(r"^[0-9a-f]{8,64}$")  # or its beginning, as people give it


def part_with(table: Table | None, needle: str) -> str:
    """The table's head and the lines that hold ``needle``; empty where none does. A million lines take some tenths of
    a second: they are searched as they lie there, and only those that are wanted become text."""
    wanted = needle.replace('"', '""').encode()  # as CSV writes it
    if table is None or (at := table.find(wanted)) < 0:
        return ""
    head = table.find(b"\n")
    head = len(table) if head < 0 else head
    lines = [table[:head]]
    while at >= 0:
        start, end = table.rfind(b"\n", 0, at) + 1, table.find(b"\n", at)
        end = len(table) if end < 0 else end
        if start > head:
            lines.append(table[start:end])
        at = table.find(wanted, end)
    return b"\n".join(lines).decode()


@functools.lru_cache(maxsize=256)
def images_naming(manifest: bytes, text: str) -> frozenset[str]:
    """The sha256 of the images whose rows hold a text: runs share manifests."""
    return frozenset(row["sha256"] for row in csv.DictReader(io.StringIO(part_with(manifest, text))))


def rows_with(version: Version, path: str, kind: type[R], needle: str) -> list[R]:
    """The rows of a table whose text holds ``needle``; none where the version has no such table.

    Raises
    ------
    UserError
        where one of them is faulty.
    """
    return _typed(part_with(version.table(path), needle), kind, path)


def real_rows(version: Version, folder: str, needle: str) -> list[RealRecord]:
    """Of data/real or data/ood."""
    return rows_with(version, f"{folder}/{MANIFEST}", RealRecord, needle)


def synthetic_rows(version: Version, folder: str, needle: str) -> list[AugmentedRecord]:
    """Of an augmentation set, as its method's own type."""
    path = f"{folder}/{MANIFEST}"
    part = part_with(version.table(path), needle)
    return _typed(part, row_type(part, path), path) if part else []


def image_rows(version: Version, needle: str) -> Iterator[tuple[str, ImageRecord]]:
    """(manifest, row) of every image whose row's text holds ``needle``."""
    for folder in (REAL, OOD):
        for real in real_rows(version, folder, needle):
            yield f"{folder}/{MANIFEST}", real
    for folder in version.sets():
        for synthetic in synthetic_rows(version, folder, needle):
            yield f"{folder}/{MANIFEST}", synthetic


def _typed(table: str, kind: type[R], path: str) -> list[R]:
    try:
        return [kind.model_validate(row) for row in csv.DictReader(io.StringIO(table))]
    except ValueError as error:
        raise UserError(f"{path} has a faulty row: {error}") from None
