"""A JSON object that holds its own hash, and those of files beside it: whatever is changed afterwards is found out.

It keeps no secret: who changes a file and seals it anew is found out by DVC, which has the hash of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from partsynth.errors import UserError
from partsynth.store.hashing import fingerprint, sha256_file

SEAL, FILES = "seal", "sha256"
BACK = "dvc checkout restores it"


def sealed(values: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """The values with the sha256 of ``files`` (by name, relative to its own folder), and the seal of all that."""
    whole = {**values, FILES: dict(files)}
    return {**whole, SEAL: _seal(whole)}


def unsealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """What was sealed, without the seal and the files' hashes."""
    return {key: value for key, value in values.items() if key not in (SEAL, FILES)}


def refuse_changed(path: Path, values: Mapping[str, Any], writer: str) -> None:
    """Refuse what is not as it was sealed. What was written before there were seals passes; files that are not there
    are missed by who needs them.

    Parameters
    ----------
    path : of the file that ``values`` were read from
    writer : who wrote it, in words ("its training")

    Raises
    ------
    UserError
        where it, or a file that it names, is not as it was; naming which.
    """
    if SEAL not in values:
        return
    try:
        whole = values[SEAL] == _seal(values)
    except ValueError:  # a number that JSON has not
        whole = False
    if not whole:
        raise UserError(f"{path} is not as {writer} wrote it: {BACK}")
    for name, digest in values[FILES].items():
        file = path.parent / name
        if file.is_file() and sha256_file(file) != digest:
            raise UserError(f"{file} is not as {writer} wrote it (sha256 in {path.name}): {BACK}")


def _seal(values: Mapping[str, Any]) -> str:
    return fingerprint({key: value for key, value in values.items() if key != SEAL})
