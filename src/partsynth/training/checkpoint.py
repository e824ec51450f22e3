"""The state of a training, from which a killed one goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import torch
from torch import Tensor

from partsynth.core.contrastive import encoder as encoders
from partsynth.store.state import SavedState
from partsynth.training.result import Measurement


class Checkpoint:
    """Encoder, optimiser state and history of one training."""

    def __init__(self, state: SavedState):
        self.state = state

    def load(self, network: torch.nn.Module, optimizer: Any, history: list[Measurement]) -> int:
        """Restore in place; returns the steps already done, 0 where there is no usable checkpoint of this training."""
        if (saved := self.state.load()) is None:
            return 0
        history += [Measurement(int(step), *figures) for step, *figures in saved["history"].tolist()]
        network.load_state_dict({k.removeprefix("model."): v for k, v in saved.items() if k.startswith("model.")})
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in saved.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                moments.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        return history[-1].step

    def save(self, network: torch.nn.Module, optimizer: Any, history: Sequence[Measurement]) -> None:
        tensors = {f"model.{key}": value for key, value in encoders.tensors(network).items()}
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
        tensors["history"] = torch.tensor([astuple(row) for row in history], dtype=torch.float64)  # (measurements, 5)
        self.state.save(tensors)

    def delete(self) -> None:
        self.state.delete()
