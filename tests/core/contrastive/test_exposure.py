from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.shapes import TINY
from hypothesis import given, settings
from hypothesis import strategies as st

from partsynth.core.contrastive import exposure
from partsynth.core.contrastive.exposure import Beside
from partsynth.training.classifier import build_encoder

SEEDS = st.integers(0, 2**31)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(1, 6), st.integers(2, 7))
def test_one_hot_targets_give_cross_entropy_and_uniform_ones_are_least_at_equal_logits(
    seed: int, rows: int, classes: int
) -> None:
    logits = (10 * drawn(seed, rows, classes) - 5).requires_grad_()
    labels = (drawn(seed + 1, rows) * classes).long()
    one_hot = F.one_hot(labels, classes).double()
    torch.testing.assert_close(exposure.soft_cross_entropy(logits, one_hot), F.cross_entropy(logits, labels))
    uniform = torch.full_like(one_hot, 1 / classes)
    loss = exposure.soft_cross_entropy(logits, uniform)
    assert loss >= math.log(classes) - 1e-12
    loss.backward()
    # the gradient of the mean over rows is (softmax - target) / rows
    torch.testing.assert_close(logits.grad, (logits.detach().softmax(1) - uniform) / rows)


def test_no_rows_are_no_loss() -> None:
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = exposure.soft_cross_entropy(logits, torch.zeros(0, 3))
    loss.backward()
    assert loss == 0 and logits.grad is not None and torch.isfinite(logits.grad).all()
    with pytest.raises(ValueError, match="targets"):
        exposure.soft_cross_entropy(torch.zeros(1, 3), torch.zeros(1, 2))


def test_large_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = exposure.soft_cross_entropy(logits, torch.full((1, 3), 1 / 3))
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(1, 5), st.integers(2, 6))
def test_softened_labels_are_distributions_between_one_hot_and_uniform(seed: int, rows: int, classes: int) -> None:
    labels, share = (drawn(seed, rows) * classes).long(), drawn(seed + 1, rows)
    targets = exposure.softened(labels, share, classes)
    torch.testing.assert_close(targets.sum(1), torch.ones(rows, dtype=torch.float64))
    torch.testing.assert_close(targets.gather(1, labels[:, None])[:, 0], share + (1 - share) / classes)
    torch.testing.assert_close(exposure.softened(labels, torch.ones(rows), classes), F.one_hot(labels, classes).float())
    images, others = drawn(seed, rows, 3, 4, 4), drawn(seed + 2, rows, 3, 4, 4)
    mixed = exposure.mixed(images, others, share)
    assert (mixed >= torch.minimum(images, others) - 1e-12).all()
    assert (mixed <= torch.maximum(images, others) + 1e-12).all()
    torch.testing.assert_close(exposure.mixed(images, others, torch.zeros(rows)), others)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.floats(0.05, 1.0))
def test_outliers_change_the_most_relevant_pixels_alone(seed: int, share: float) -> None:
    images, gradient = 0.4 + 0.2 * drawn(seed, 2, 3, 6, 6), drawn(seed + 1, 2, 3, 6, 6) - 0.5
    made = exposure.outliers(images, gradient, share, 0.05)
    changed = (made != images).any(1).flatten(1)  # (2, 36)
    size = gradient.abs().sum(1).flatten(1)
    assert changed.sum(1).tolist() == [max(1, round(share * 36))] * 2
    for row in range(2):
        left = size[row][~changed[row]]
        assert not len(left) or size[row][changed[row]].min() >= left.max()
    moved = (made - images).square().sum((1, 2, 3)) / (3 * changed.sum(1))
    assert (moved.sqrt() <= 0.05 + 1e-9).all()  # less where a value is clipped
    torch.testing.assert_close(exposure.outliers(images, 100 * gradient, share, 0.05), made)  # of any scale
    assert exposure.outliers(images, gradient, share, 100.0).max() <= 1  # images stay images
    assert torch.equal(exposure.outliers(images, torch.zeros_like(gradient), share, 0.05), images)


def test_rows_hold_the_embedding_and_what_stands_beside_it() -> None:
    encoder = build_encoder(TINY, 0)
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    head = torch.nn.Linear(encoder.feature_dim, 5)
    with torch.no_grad():
        plain, with_head, with_features = encoder(images), Beside(encoder, head)(images), Beside(encoder)(images)
    assert torch.equal(with_head[:, : TINY.embedding], plain) and torch.equal(with_features[:, : TINY.embedding], plain)
    torch.testing.assert_close(with_head[:, TINY.embedding :], head(encoder.features(images)))
    torch.testing.assert_close(with_features[:, TINY.embedding :].norm(dim=1), torch.ones(3))
    with pytest.raises(ValueError, match="no head"):
        Beside(encoder).logits(images)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_encoder_gets_a_share_of_the_heads_gradient_and_the_head_all_of_it(share: float) -> None:
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def gradients(gradient: float) -> tuple[torch.Tensor, torch.Tensor]:
        encoder = build_encoder(TINY, 0)
        torch.manual_seed(0)
        head = torch.nn.Linear(encoder.feature_dim, 5)
        Beside(encoder, head, gradient)(images)[:, TINY.embedding :].square().sum().backward()
        first = next(encoder.backbone.parameters()).grad
        assert first is not None and head.weight.grad is not None
        return first, head.weight.grad

    whole, part = gradients(1.0), gradients(share)
    torch.testing.assert_close(part[0], share * whole[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(part[1], whole[1])
