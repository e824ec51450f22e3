"""Identities: canonical JSON, fingerprints, seeds drawn from an identity, and hashes of files and folders."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel


def fingerprint(value: Any) -> str:
    """Hex sha256 of the canonical JSON of ``value`` (keys sorted; pydantic models by their fields)."""
    return hashlib.sha256(_canonical(value)).hexdigest()


def seed_from(*identity: Any) -> int:
    """A seed in [0, 2**63) derived from an identity: the same names give the same seed on every machine."""
    return int.from_bytes(hashlib.sha256(_canonical(list(identity))).digest()[:8], "big") >> 1


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=plain, allow_nan=False).encode()


def plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return value.as_posix()
    numpy = sys.modules.get("numpy")  # whoever has one of its values has imported it; most commands need not
    if numpy is not None and isinstance(value, numpy.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no canonical form")


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(folder: Path) -> str:
    """Hash of a folder: the sorted relative names and the content of every file below it."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return fingerprint([[p.relative_to(folder).as_posix(), sha256_file(p)] for p in files])
