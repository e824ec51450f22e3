"""Rows of manifests of any version; only those that hold a text are parsed, so that 10,000 take milliseconds."""

from __future__ import annotations

import csv
import functools
import io
import re
from collections.abc import Iterator
from typing import TypeVar

from partsynth.audit.versions import Version
from partsynth.errors import UserError
from partsynth.records.augmented import row_type
from partsynth.records.rows import AugmentedRecord, ImageRecord, RealRecord, Record
from partsynth.store.layout import MANIFEST, OOD, REAL

R = TypeVar("R", bound=Record)
SHA256 = re.compile(r"^[0-9a-f]{8,64}$")  # or its beginning, as people give it


def part_with(table: bytes | None, needle: str) -> str:
    """The table's head and the lines that hold ``needle``; empty where none does."""
    text = "" if table is None else table.decode()
    needle = needle.replace('"', '""')  # as CSV writes it
    if needle not in text:
        return ""
    head, _, body = text.partition("\n")
    return "\n".join([head, *(line for line in body.split("\n") if needle in line)])


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
    return _typed(part_with(version.read(path), needle), kind, path)


def real_rows(version: Version, folder: str, needle: str) -> list[RealRecord]:
    """Of data/real or data/ood."""
    return rows_with(version, f"{folder}/{MANIFEST}", RealRecord, needle)


def synthetic_rows(version: Version, folder: str, needle: str) -> list[AugmentedRecord]:
    """Of an augmentation set, as its method's own type."""
    path = f"{folder}/{MANIFEST}"
    part = part_with(version.read(path), needle)
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
