"""Files written whole or not at all, and paths that cannot leave their folder."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from partsynth.errors import UserError
from partsynth.store.hashing import plain


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write through a temporary file beside ``path``: a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text_atomic(path: Path, text: str) -> None:
    write_bytes_atomic(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    write_text_atomic(path, json.dumps(value, indent=1, sort_keys=True, default=plain, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run the stage that writes it (dvc repro)") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None


def prune(folder: Path, wanted: Iterable[Path]) -> list[Path]:
    """Delete the files below ``folder`` that are not ``wanted``, then empty folders; returns what went."""
    keep = {Path(p).absolute() for p in wanted}
    gone = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.absolute() not in keep]
    for path in gone:
        path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    return gone


def inside(root: Path, name: str) -> Path:
    """``root / name``, refused where the name from a manifest would leave the folder."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or not name:
        raise UserError(f"{name!r} is not a relative path below {root}")
    path = root / pure
    if not path.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{name!r} leaves the folder {root}")
    return path
