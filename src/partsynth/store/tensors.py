"""safetensors with the same bytes for the same content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from partsynth.store.files import write_bytes_atomic
from partsynth.store.hashing import sha256_bytes


def write_safetensors(path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> str:
    """Write torch tensors atomically with sorted metadata; returns the file's sha256.

    The library writes metadata in another order in every process; here the same content is the same bytes.
    """
    from safetensors.torch import save

    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps({"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8:end])}).encode()
    header += b" " * (-len(header) % 8)
    data = len(header).to_bytes(8, "little") + header + data[end:]
    write_bytes_atomic(path, data)
    return sha256_bytes(data)


def safetensors_metadata(path: Path) -> dict[str, str] | None:
    """The metadata of a whole, readable safetensors file; None where it is missing or torn."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError):
        return None
