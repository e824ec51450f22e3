from __future__ import annotations

import math
from pathlib import Path

import torch
from helpers.shapes import TINY

from partsynth.core.contrastive.optimizer import Muon
from partsynth.store.state import SavedState
from partsynth.training.checkpoint import Checkpoint
from partsynth.training.classifier import build_encoder
from partsynth.training.result import Measurement

HISTORY = [Measurement(4, 0.1 + 0.2, 1e-3, 0.5, math.nan), Measurement(8, 2**-40, 5e-4, 0.25, 1 / 3)]


def trained(seed: int, steps: int) -> tuple[torch.nn.Module, Muon]:
    encoder = build_encoder(TINY, seed)
    optimizer = Muon(encoder.parameters(), 1e-3)
    for step in range(steps):
        encoder(torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(step))).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return encoder, optimizer


def test_weights_moments_and_history_come_back_to_the_bit(tmp_path: Path) -> None:
    checkpoint = Checkpoint(SavedState(tmp_path / "work/c.safetensors", "these inputs"))
    encoder, optimizer = trained(0, 3)
    checkpoint.save(encoder, optimizer, HISTORY)
    other, moments = trained(1, 1)
    history: list[Measurement] = []
    assert checkpoint.load(other, moments, history) == 8
    assert repr(history) == repr(HISTORY)  # nan among them
    for a, b in zip(encoder.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(encoder.parameters(), other.parameters(), strict=True):
        assert all(torch.equal(value, moments.state[b][key]) for key, value in optimizer.state[a].items())
    checkpoint.delete()
    assert not (tmp_path / "work").exists()


def test_that_of_other_inputs_is_not_taken_up(tmp_path: Path) -> None:
    encoder, optimizer = trained(0, 1)
    Checkpoint(SavedState(tmp_path / "c", "these inputs")).save(encoder, optimizer, HISTORY)
    history: list[Measurement] = []
    assert Checkpoint(SavedState(tmp_path / "c", "other inputs")).load(encoder, optimizer, history) == 0
    assert Checkpoint(SavedState(tmp_path / "none", "these inputs")).load(encoder, optimizer, history) == 0
    assert history == []
