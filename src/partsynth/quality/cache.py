"""What was measured of images, kept in a file: a changed threshold measures nothing again.

A cache is no product: one that is missing, torn or of another form is empty, and its images are measured anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from partsynth.store.files import write_bytes_atomic

Row = tuple[Any, ...]  # an array or a number per column


def read_cache(path: Path, columns: Sequence[str]) -> dict[str, Row]:
    """Key -> its value of each column."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            keys = json.loads(file.metadata()["keys"])
            values = [file.get_tensor(name) for name in columns]  # (N, ...) each
            return dict(zip(keys, zip(*values, strict=True), strict=True))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return {}


def write_cache(path: Path, columns: Sequence[str], rows: Mapping[str, Row]) -> None:
    """Write key -> its value of each column; the values of a column have one shape."""
    from safetensors.numpy import save

    if not rows:
        path.unlink(missing_ok=True)
        return
    values = [np.stack([np.asarray(value) for value in column]) for column in zip(*rows.values(), strict=True)]
    data = save(dict(zip(columns, values, strict=True)), {"keys": json.dumps(list(rows))})
    write_bytes_atomic(path, data)
