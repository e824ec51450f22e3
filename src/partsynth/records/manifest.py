"""Manifests as CSV: written sorted and whole, read with every fault named."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from partsynth.errors import UserError, listed
from partsynth.records.rows import Record
from partsynth.store import reading
from partsynth.store.files import write_text_atomic

R = TypeVar("R", bound=Record)


def write_manifest(path: Path, rows: Sequence[Record], kind: type[Record]) -> None:
    """Write rows as CSV, sorted by path (and role), atomically. An empty list leaves a file with its header alone.

    A field that ``kind.columns`` leaves out gets a column only where a row has another value than its default.
    """
    rows = sorted(rows, key=lambda r: r.key)
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        if row.key in seen:
            raise ValueError(f"{path}: two rows for {row.path}")
        seen.add(row.key)
    columns = columns_of(rows, kind)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        told = row.model_dump(include={*row.columns(), *columns})
        writer.writerow({k: repr(v) if isinstance(v, float) else v for k, v in told.items()})
    write_text_atomic(path, buffer.getvalue())


def columns_of(rows: Sequence[Record], kind: type[Record]) -> list[str]:
    """Of a manifest of these rows: a field that ``kind.columns`` leaves out only where one has no default there."""
    known = kind.columns()
    return known + [
        name
        for name, field in kind.model_fields.items()
        if name not in known and any(getattr(row, name, field.default) != field.default for row in rows)
    ]


def read_manifest(path: Path, kind: type[R]) -> list[R]:
    """Read and check a manifest.

    Raises
    ------
    UserError
        naming the file, the line and the column of every fault (the first ten are listed).
    """
    return parse_manifest(read_text(path), kind, str(path))


def read_text(path: Path) -> str:
    """A manifest's text.

    Raises
    ------
    UserError
        where the file is missing, or no text.
    """
    return reading.read_text(path, "table (CSV)")


def parse_manifest(text: str, kind: type[R], name: str, *, once: bool = True) -> list[R]:
    """The rows of a manifest's text; ``name`` is how faults call it. Raises as ``read_manifest`` does.

    ``once``: whether a row that stands there twice, by its key, is a fault.
    """
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        return _rows(reader, kind, name, once)
    except csv.Error as error:  # a quote that is never closed, a NUL byte, a field without end
        raise UserError(f"{name}, line {reader.line_num}: no table (CSV): {error}") from None


def _rows(reader: csv.DictReader[str], kind: type[R], name: str, once: bool) -> list[R]:
    columns = list(reader.fieldnames or [])
    missing = [f for f, info in kind.model_fields.items() if info.is_required() and f not in columns]
    if missing:
        raise UserError(f"{name}: missing columns {', '.join(missing)}")
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        raise UserError(f"{name}: two columns {', '.join(twice)}")
    rows: list[R] = []
    faults: list[str] = []
    seen: dict[tuple[str, ...], int] = {}
    for row in reader:
        line = f"line {reader.line_num}"
        if None in row:
            faults.append(f"{line}: more fields than the header has columns")
            continue
        try:
            rows.append(kind.model_validate(row))
        except ValidationError as error:
            faults += [f"{', '.join([line, *map(str, e['loc'])])}: {_said(e['msg'])}" for e in error.errors()]
            continue
        if rows[-1].misplaced:
            faults.append(f"{line}, path: {rows[-1].misplaced}")
        first = seen.setdefault(rows[-1].key, reader.line_num)
        if once and first != reader.line_num:
            faults.append(f"{line}: {rows[-1].path} stands in line {first} already")
    if faults:
        raise UserError(f"{name} has faulty rows:\n  {listed(faults)}")
    return rows


def _said(message: str) -> str:
    return message.removeprefix("Value error, ")
