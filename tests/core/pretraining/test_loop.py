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


def measured(state: State | None, stop_at: int | None = None) -> tuple[Loop, list[float], torch.nn.Module]:
    """Forty steps on a target, measured against another one that lies on the way: every four steps, patience 2."""
    torch.manual_seed(0)
    net = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(0.0)
    loop = Loop(
        {"net": net}, steps=40, learning_rate=0.1, device="cpu", seed=0, state=state, warmup=1, every=4, mixed=False
    )
    values = []

    def loss_of(generator: torch.Generator) -> torch.Tensor:
        if stop_at is not None and len(values) > stop_at:
            raise Killed
        return (net.weight - 3).square().mean()

    def measure() -> float:
        values.append((net.weight - 1).square().item())
        return values[-1]

    loop.run(loss_of, quiet, measure=measure, patience=2)
    return loop, values, net


def test_it_ends_with_the_weights_that_measured_best_and_stops_when_nothing_gets_better() -> None:
    loop, values, net = measured(None)
    assert loop.best is not None and loop.best.value == min(values) < values[0]
    assert (net.weight - 1).square().item() == min(values)
    best = values.index(min(values))
    assert loop.best.step == 4 * best and len(values) == best + 3 < 11  # two more measurements, both worse


def test_the_weights_it_began_with_may_be_the_best() -> None:
    torch.manual_seed(0)
    net = torch.nn.Linear(1, 1)
    before = net.weight.clone()
    loop = Loop({"net": net}, steps=8, learning_rate=0.1, device="cpu", seed=0, state=None, every=2, mixed=False)
    worse = iter(range(100))
    loop.run(lambda _: net(torch.ones(1, 1)).square().mean(), quiet, measure=lambda: float(next(worse)))
    assert torch.equal(net.weight, before) and loop.best is not None and loop.best.step == 0


def test_the_best_weights_survive_a_kill(tmp_path: Path) -> None:
    wanted = measured(None)[0].best
    saved = SavedState(tmp_path / "state.safetensors", "x")
    with pytest.raises(Killed):
        measured(saved, stop_at=2)
    found = measured(saved)[0].best
    assert wanted is not None and found is not None and found[:2] == wanted[:2]
    assert all(torch.equal(a, b) for a, b in zip(found.weights, wanted.weights, strict=True))
