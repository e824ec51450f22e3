"""Learned tokens and adaptations, and the images they were learned from, as their files' headers say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from partsynth.errors import UserError
from partsynth.records.rows import RealRecord
from partsynth.store.layout import REAL


@dataclass(frozen=True)
class LearnedToken:
    """Where a token file comes from, or an adaptation."""

    class_name: str | None  # None: an adaptation, which is of all classes
    base_sha256: str | None  # the base model it was learned with; None where it does not say
    sources: tuple[tuple[str, str], ...]  # path and sha256 of the images it was learned from
    told: dict[str, Any]  # the rest of its header, for people

    def as_json(self) -> dict[str, Any]:
        return self.told | {"learned_from": [path for path, _ in self.sources]}


def read_token(data: bytes, name: str) -> LearnedToken:
    """The provenance in the header of a token file's bytes.

    Raises
    ------
    UserError
        where there is none.
    """
    return _read(data, name, "a token file")


def read_adaptation(data: bytes, name: str) -> LearnedToken:
    """The provenance in the header of an adaptation's bytes.

    Raises
    ------
    UserError
        where there is none.
    """
    return _read(data, name, "an adaptation")


def _read(data: bytes, name: str, kind: str) -> LearnedToken:
    try:
        meta = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        sources = tuple((path, sha256) for path, sha256 in json.loads(meta["sources"]))
        told = {key: value for key, value in meta.items() if key not in ("sources", "fingerprint")}
        class_name = None if kind == "an adaptation" else meta["class_name"]
        return LearnedToken(class_name, meta.get("base_sha256"), sources, told)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{name} is not {kind} with provenance: {type(error).__name__}: {error}") from None


def source_faults(token: LearnedToken, real: Callable[[str], RealRecord | None]) -> Iterator[str]:
    """A token is learned from training images of its class, an adaptation from those of all; ``real`` looks into the
    manifest, where they must be as they were."""
    for path, sha256 in token.sources:
        row = real(path)
        if row is None or row.sha256 != sha256:
            yield f"was learned from {path}, which is not in {REAL}/manifest.csv as it was"
        elif row.split != "train" or row.role != "target":
            yield f"was learned from {path}, an image of split {row.split}"
        elif token.class_name not in (None, row.class_name):
            yield f"was learned from {path}, an image of class {row.class_name}"
