from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.pretraining import quiet

from partsynth.core.pretraining.loop import Loop, State
from partsynth.store.state import SavedState


class Killed(Exception):
    pass


def fit(state: State | None, stop_at: int | None = None, ema: float | None = 0.9) -> tuple[list[torch.Tensor], int]:
    """Twelve steps of a small regression, its state saved every five; the weights, and how many losses it took."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    loop = Loop(
        {"net": net}, steps=12, learning_rate=0.05, device="cpu", seed=7, state=state, ema=ema, warmup=3, every=5
    )
    calls = 0

    def loss_of(generator: torch.Generator) -> torch.Tensor:
        nonlocal calls
        if stop_at is not None and loop.start + calls == stop_at:
            raise Killed
        calls += 1
        x = torch.randn(16, 4, generator=generator)
        return (net(x).float()[:, 0] - x.sum(1)).square().mean()

    loop.run(loss_of, quiet)
    return [p.detach().clone() for p in net.parameters()], calls


@pytest.mark.parametrize("ema", [0.9, None])
def test_a_killed_run_goes_on_and_ends_as_the_unbroken_one(tmp_path: Path, ema: float | None) -> None:
    wanted, calls = fit(None, ema=ema)
    assert calls == 12
    state = SavedState(tmp_path / "loop.safetensors", "these settings")
    with pytest.raises(Killed):
        fit(state, stop_at=8, ema=ema)
    saved = state.load()
    assert saved is not None and int(saved["step"]) == 5
    found, calls = fit(state, ema=ema)
    assert calls == 7
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    again, calls = fit(state, ema=ema)  # finished: nothing is left to do, the result is the same
    assert calls == 0 and all(torch.equal(a, b) for a, b in zip(again, wanted, strict=True))


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    net = torch.nn.Linear(2, 1)
    loop = Loop({"net": net}, steps=3, learning_rate=0.1, device="cpu", seed=0, state=None)
    with pytest.raises(FloatingPointError, match="step 3"):
        loop.run(lambda generator: net.weight.sum() * float("nan"), quiet)


def test_the_state_of_other_settings_is_not_taken_up(tmp_path: Path) -> None:
    fit(SavedState(tmp_path / "loop.safetensors", "these settings"))
    _, calls = fit(SavedState(tmp_path / "loop.safetensors", "other settings"))
    assert calls == 12
