"""State of a training, from which a killed one goes on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from partsynth.core.contrastive import encoder as encoders
from partsynth.store.files import write_bytes_atomic

if TYPE_CHECKING:
    pass
from partsynth.training.result import Measurement

WORK = Path(".work/train")


class Checkpoint:
    """Encoder, optimiser state and history in one safetensors file, written whole or not at all."""

    def __init__(self, path: Path, fingerprint: str):
        self.path, self.fingerprint = path, fingerprint

    def load(self, network: torch.nn.Module, optimizer: Any, history: list[Measurement]) -> int:
        """Restore in place; returns the steps already done, 0 where there is no usable checkpoint of this training."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "pt") as file:
                told = file.metadata() or {}
                if told.get("fingerprint") != self.fingerprint:
                    return 0
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return 0
        history += [Measurement(**row) for row in json.loads(told["history"])]
        network.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return history[-1].step

    def save(self, network: torch.nn.Module, optimizer: Any, history: Sequence[Measurement]) -> None:
        from safetensors.torch import save

        tensors = {f"model.{key}": value for key, value in encoders.tensors(network).items()}
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value.contiguous() for name, value in values.items()}
        told = {"fingerprint": self.fingerprint, "history": json.dumps([asdict(row) for row in history])}
        write_bytes_atomic(self.path, save(tensors, told))

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()
