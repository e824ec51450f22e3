"""The journal file of studies, made whole again after a worker was killed while it wrote.

Each record is a line of JSON. Of one that was cut off nothing was ever told to anyone, so it can go; left there, the
next record is glued to it and Optuna reads none of the study again.
"""

from __future__ import annotations

import json
from pathlib import Path

from optuna.storages.journal import JournalFileSymlinkLock

from partsynth.errors import UserError
from partsynth.store.files import write_bytes_atomic

START = b'{"op_code"'  # of every record


def mend(path: Path) -> str | None:
    """Take cut-off records out of a journal; returns what was done, None where it was whole.

    Raises
    ------
    UserError
        where a line is damaged otherwise: its trials cannot be guessed.
    """
    if not path.is_file() or _mended(path, path.read_bytes())[1] == 0:
        return None
    lock = JournalFileSymlinkLock(str(path))  # another worker may be writing the last line right now
    lock.acquire()
    try:
        whole, torn = _mended(path, path.read_bytes())
        if torn:
            write_bytes_atomic(path, whole)
    finally:
        lock.release()
    if not torn:
        return None
    return f"{path} held {torn} record(s) that a killed worker left cut off: taken out, the study goes on"


def _mended(path: Path, data: bytes) -> tuple[bytes, int]:
    """The whole records, and how many were cut off."""
    kept, torn = [], 0
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        if not line.endswith(b"\n") and _is_begun(line):  # the last
            torn += 1
        elif _is_record(line):
            kept.append(line)
        elif (begin := line.rfind(START)) > 0 and _is_record(line[begin:]):  # one glued to a cut-off one
            torn += 1
            kept.append(line[begin:])
        else:
            raise UserError(
                f"study.storage: line {number} of {path} is no record of a study; bring an older copy back, or name "
                "another file (a new study)"
            )
    return b"".join(kept), torn


def _is_begun(line: bytes) -> bool:
    """Whether it may be what a killed worker, or a machine that lost its power, left of a record."""
    return line.startswith(START) or START.startswith(line) or not line.strip(b"\0")


def _is_record(line: bytes) -> bool:
    try:
        return "op_code" in json.loads(line)
    except (ValueError, RecursionError, TypeError):
        return False
