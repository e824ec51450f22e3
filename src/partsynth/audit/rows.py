"""Rows of manifests of any version; only those that hold a text are parsed, so that 10,000 take milliseconds."""

from __future__ import annotations

import csv
import functools
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from partsynth.audit.versions import Version
from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import AugmentedRecord, ImageRecord, RealRecord, Record
from partsynth.seams import METHODS
from partsynth.store.layout import MANIFEST, OOD, REAL

R = TypeVar("R", bound=Record)
SHA256 = re.compile(r"^[0-9a-f]{8,64}$")  # or its beginning, as people give it


def lines_with(data: bytes | None, needle: str) -> list[dict[str, str]]:
    """The rows of a table whose text holds ``needle``, column -> text."""
    text = "" if data is None else data.decode()
    if needle not in text:
        return []
    head, _, body = text.partition("\n")
    lines = [line for line in body.splitlines() if needle in line]
    return list(csv.DictReader(io.StringIO("\n".join([head, *lines]))))


@functools.lru_cache(maxsize=256)
def images_naming(manifest: bytes, text: str) -> frozenset[str]:
    """The sha256 of the images whose rows hold a text: runs share manifests."""
    return frozenset(row["sha256"] for row in lines_with(manifest, text))


def rows_with(version: Version, path: str, kind: type[R], needle: str) -> list[R]:
    """The rows of a table whose text holds ``needle``; none where the version has no such table.

    Raises
    ------
    UserError
        where one of them is faulty.
    """
    return [_typed(row, kind, path) for row in lines_with(version.read(path), needle)]


def real_rows(version: Version, folder: str, needle: str) -> list[RealRecord]:
    """Of data/real or data/ood."""
    return rows_with(version, f"{folder}/{MANIFEST}", RealRecord, needle)


def synthetic_rows(version: Version, folder: str, needle: str) -> list[AugmentedRecord]:
    """Of an augmentation set, each of its method's own kind."""
    path = f"{folder}/{MANIFEST}"
    return [_typed(row, _kind(row), path) for row in lines_with(version.read(path), needle)]


def read_set(path: Path) -> list[AugmentedRecord]:
    with open(path, newline="") as file:
        first = next(csv.DictReader(file), {})
    return read_manifest(path, _kind(first))


def _kind(row: dict[str, str]) -> type[AugmentedRecord]:
    return METHODS[row.get("method") or "sdedit"].Row


def image_rows(version: Version, needle: str) -> Iterator[tuple[str, ImageRecord]]:
    """(manifest, row) of every image whose row's text holds ``needle``."""
    for folder in (REAL, OOD):
        for real in real_rows(version, folder, needle):
            yield f"{folder}/{MANIFEST}", real
    for folder in version.sets():
        for synthetic in synthetic_rows(version, folder, needle):
            yield f"{folder}/{MANIFEST}", synthetic


def _typed(row: dict[str, str], kind: type[R], path: str) -> R:
    try:
        return kind.model_validate(row)
    except ValueError as error:
        raise UserError(f"{path} has a faulty row: {error}") from None
