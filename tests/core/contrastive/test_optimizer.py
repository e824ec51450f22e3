import pytest
import torch
from torch import nn

from partsynth.core.contrastive.optimizer import (
    GRAM_FROM,
    MATCH_ADAM,
    NEWTON_SCHULZ,
    NEWTON_SCHULZ_STEPS,
    Muon,
    orthogonalise,
)


@pytest.mark.parametrize("shape", [(8, 8), (16, 72), (72, 16), (1, 5)])
def test_orthogonalise_keeps_directions_and_levels_singular_values(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    levelled = u.T @ orthogonalise(matrix) @ v.T
    off = levelled - torch.diag(levelled.diagonal())
    assert off.abs().max() < 1e-3
    wide = s / s.norm() > 0.05  # the smallest of a square matrix need more than five steps
    assert levelled.diagonal()[wide].min() > 0.6 and levelled.diagonal().max() < 1.3


@pytest.mark.parametrize("spread", [0.0, -7.0])
@pytest.mark.parametrize("shape", [(GRAM_FROM, 2 * GRAM_FROM), (3 * GRAM_FROM, GRAM_FROM)])
def test_the_gram_matrixs_way_gives_what_the_plain_iteration_gives(shape, spread):
    generator = torch.Generator().manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    matrix = (u * torch.logspace(0, spread, len(v))) @ v
    x = (matrix / matrix.norm()).double()
    for _ in range(NEWTON_SCHULZ_STEPS):
        a, b, c = NEWTON_SCHULZ
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    assert (orthogonalise(matrix) - x).norm() < 1e-3 * x.norm()


def test_one_step_is_as_long_as_adams_in_every_layer():
    network = nn.Sequential(nn.Conv2d(8, 16, 3), nn.Flatten(), nn.Linear(16 * 9, 32))
    before = [p.detach().clone() for p in network.parameters()]
    network(torch.randn(64, 8, 5, 5)).square().mean().backward()
    Muon(network.parameters(), lr=0.1).step()
    for old, new in zip(before, network.parameters(), strict=True):
        length = (new - old).square().mean().sqrt().item()
        assert length == pytest.approx(0.1 * (MATCH_ADAM if new.ndim > 1 else 1.0), rel=0.35)


def test_vectors_step_as_torchs_adam():
    start = torch.randn(6, generator=torch.Generator().manual_seed(1))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    steppers = Muon([ours], lr=0.01, weight_decay=0.5), torch.optim.Adam([theirs], lr=0.01)
    for _ in range(5):
        for parameter, stepper in zip((ours, theirs), steppers, strict=True):
            stepper.zero_grad()
            (parameter**3).sum().backward()
            stepper.step()
    torch.testing.assert_close(ours, theirs)


def test_weights_decay_without_a_gradient_to_speak_of():
    weight = nn.Parameter(torch.eye(4))
    weight.grad = torch.zeros(4, 4)
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), 0.95 * torch.eye(4))


def test_minimises():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
    x = torch.randn(256, 6)
    y = (x[:, :1] * x[:, 1:2]).sin()
    optimizer = Muon(network.parameters(), lr=0.02)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = (network(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
