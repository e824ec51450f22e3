"""Bytes put by until it is known whether they are wanted."""

from __future__ import annotations

import tempfile
from pathlib import Path

Span = tuple[int, int]  # offset and length in the scratch file


class Scratch:
    """A nameless file in ``folder``: gone when closed, and even after a SIGKILL."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def put(self, data: bytes) -> Span:
        return self._file.tell(), self._file.write(data)

    def get(self, span: Span) -> bytes:
        """What was put. Nothing may be put any more after the first was got."""
        self._file.seek(span[0])
        return self._file.read(span[1])
