"""DVC's digests of files and folders."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def md5_bytes(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def md5_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def listing_md5(files: dict[str, str]) -> str:
    """DVC's digest of a folder, ``<md5>.dir``, from relative path -> md5."""
    rows = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    return md5_bytes(json.dumps(rows).encode()) + ".dir"


def folder_files(folder: Path) -> dict[str, str]:
    """Relative path -> md5 of every file below ``folder`` (caches of Python's left out, as .dvcignore does)."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {p.relative_to(folder).as_posix(): md5_file(p) for p in files}


def path_md5(path: Path) -> str | None:
    """DVC's digest of what lies at ``path`` now; None where there is nothing."""
    if path.is_dir():
        return listing_md5(folder_files(path))
    return md5_file(path) if path.is_file() else None
