"""Manifests of augmentation sets: every row typed by the method that made its image.

A manifest without the column ``method`` is SDEdit's: it is older than the choice of methods, and its bytes stay.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from partsynth.errors import UserError, either
from partsynth.records.manifest import parse_manifest, read_text
from partsynth.records.rows import AugmentedRecord
from partsynth.seams import METHODS

WITHOUT_COLUMN = "sdedit"


def read_augmented(path: Path) -> list[AugmentedRecord]:
    """The rows of a set's manifest, as its method's own type.

    Raises
    ------
    UserError
        naming every fault, as ``read_manifest`` does, or a method that there is none of.
    """
    text = read_text(path)
    return parse_manifest(text, row_type(text, str(path)), str(path))


def row_type(text: str, name: str) -> type[AugmentedRecord]:
    """What the rows of a manifest's text are; ``name`` is how a fault calls it. A manifest is of one method alone.

    Raises
    ------
    UserError
        where it names a method that there is none of.
    """
    reader = csv.DictReader(io.StringIO(text))
    if "method" not in (reader.fieldnames or ()):
        return METHODS[WITHOUT_COLUMN].Row
    first = next(reader, None)
    if first is None:
        return AugmentedRecord  # no row, no type
    if first["method"] not in METHODS:
        raise UserError(f"{name}: column method should be {either(METHODS.names)} (found {first['method']!r})")
    return METHODS[first["method"]].Row
