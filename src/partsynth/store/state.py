"""The state of a computation that may be killed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from partsynth.store.tensors import write_safetensors

if TYPE_CHECKING:
    from torch import Tensor


class SavedState:
    """Tensors in one safetensors file, written whole or not at all, and read by the computation that wrote them alone.

    Parameters
    ----------
    path : the file.
    identity : a fingerprint of all that the computation is made of; under another one the file counts as missing.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path, self.identity = path, identity

    def load(self) -> dict[str, Tensor] | None:
        """The tensors, on the CPU; None where the file is missing, torn or of another identity."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "pt") as file:
                if (file.metadata() or {}).get("fingerprint") != self.identity:
                    return None
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return None

    def save(self, tensors: Mapping[str, Tensor]) -> None:
        write_safetensors(self.path, tensors, {"fingerprint": self.identity})

    def delete(self) -> None:
        """Also its folder, where nothing else lies in it."""
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()
