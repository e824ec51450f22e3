"""The loss against a slow loop from the formula, against pytorch-metric-learning, and against the study's defects."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from partsynth.core.backbones.narrow_resnet import MEMBER
from partsynth.core.contrastive import losses
from partsynth.core.contrastive.encoder import build
from partsynth.core.contrastive.losses import backward_in_micro_batches, collapse, feature_variance, supcon_loss


def slow_loop(z, labels, is_negative, temperature=0.1, weight=1.0, negatives="all"):
    """Khosla et al. 2020, eq. 2, row by row in double precision, with negative-only rows in the denominator."""
    z = z.double()
    rows, terms = range(len(z)), []
    counted = {"all": lambda q, own: True, "own": lambda q, own: q == own, "other": lambda q, own: q != own}
    for i in rows:
        if is_negative[i]:
            continue
        positives = [p for p in rows if p != i and not is_negative[p] and labels[p] == labels[i]]
        if not positives:
            continue
        total = 0.0
        for j in rows:
            if j == i or (is_negative[j] and not counted[negatives](labels[j], labels[i])):
                continue
            total = total + (weight if is_negative[j] else 1.0) * torch.exp(z[i] @ z[j] / temperature)
        terms.append(-sum(z[i] @ z[p] / temperature - torch.log(total) for p in positives) / len(positives))
    return sum(terms) / len(terms) if terms else z.sum() * 0


def sample(seed, pictures, views=2, dimensions=8, classes=3, negative_share=0.3):
    g = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(pictures, views, dimensions, generator=g), dim=-1)
    labels = torch.randint(0, classes, (pictures,), generator=g)
    return z, labels, torch.rand(pictures, generator=g) < negative_share


def flat(z, labels, is_negative):
    views = z.shape[1]
    return z.flatten(0, 1), labels.repeat_interleave(views), is_negative.repeat_interleave(views)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    pictures=st.integers(1, 9),
    views=st.integers(1, 3),
    classes=st.integers(1, 4),
    share=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
    temperature=st.sampled_from([0.07, 0.1, 0.5, 1.0]),
    weight=st.sampled_from([0.0, 0.25, 1.0, 3.0]),
    negatives=st.sampled_from(["all", "own", "other"]),
    block=st.sampled_from([1, 7, 2**20]),
)
def test_equals_the_slow_loop_in_value_and_gradient(
    seed, pictures, views, classes, share, temperature, weight, negatives, block
):
    z, labels, is_negative = sample(seed, pictures, views, classes=classes, negative_share=share)
    fast, slow = z.double().requires_grad_(), z.double().requires_grad_()
    before = losses.BLOCK_ELEMENTS["cpu"]
    losses.BLOCK_ELEMENTS["cpu"] = block
    try:
        loss = supcon_loss(
            fast, labels, is_negative, temperature=temperature, negative_weight=weight, negatives=negatives
        )
    finally:
        losses.BLOCK_ELEMENTS["cpu"] = before
    expected = slow_loop(*flat(slow, labels, is_negative), temperature, weight, negatives)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(fast.grad, slow.grad, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_equals_pytorch_metric_learning_without_negatives(seed):
    from pytorch_metric_learning.losses import SupConLoss

    z, labels, _ = sample(seed, pictures=12, classes=4)
    rows, row_labels, _ = flat(z, labels, torch.zeros(12, dtype=torch.bool))
    expected = SupConLoss(temperature=0.1)(rows, row_labels)
    torch.testing.assert_close(supcon_loss(z, labels), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("negatives", ["all", "own", "other"])
@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_gradcheck(negatives, weight):
    z, labels, is_negative = sample(3, pictures=6, classes=2)
    torch.autograd.gradcheck(
        lambda x: supcon_loss(F.normalize(x, dim=-1), labels, is_negative, negative_weight=weight, negatives=negatives),
        (z.double().requires_grad_(),),
    )


def test_flat_rows_equal_views():
    z, labels, is_negative = sample(5, pictures=7)
    torch.testing.assert_close(supcon_loss(*flat(z, labels, is_negative)), supcon_loss(z, labels, is_negative))


def test_order_of_samples_plays_no_part():
    z, labels, is_negative = sample(6, pictures=11)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        supcon_loss(z[order], labels[order], is_negative[order]), supcon_loss(z, labels, is_negative)
    )


def test_a_negatives_weight_counts_copies():
    z, labels, is_negative = sample(7, pictures=8, negative_share=0.5)
    twice = torch.cat([torch.arange(8), torch.nonzero(is_negative)[:, 0]])
    torch.testing.assert_close(
        supcon_loss(z, labels, is_negative, negative_weight=2.0),
        supcon_loss(z[twice], labels[twice], is_negative[twice]),
    )


def test_zero_weight_and_no_negatives_are_the_same():
    z, labels, is_negative = sample(8, pictures=9)
    torch.testing.assert_close(
        supcon_loss(z, labels, is_negative, negative_weight=0.0), supcon_loss(z[~is_negative], labels[~is_negative])
    )


def test_float32_logits_under_autocast():
    z, labels, is_negative = sample(9, pictures=10)
    expected = supcon_loss(z, labels, is_negative)
    with torch.autocast("cpu", torch.bfloat16):
        got = supcon_loss(z, labels, is_negative)
        half = z.bfloat16().requires_grad_()
        supcon_loss(half, labels, is_negative).backward()
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected)
    assert half.grad.dtype == torch.bfloat16


def test_huge_logits_stay_finite():
    z, labels, is_negative = sample(10, pictures=10)
    loss = supcon_loss(z.requires_grad_(), labels, is_negative, temperature=1e-4)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z.grad).all()


def test_identical_embeddings_give_log_n_minus_1():
    z = F.normalize(torch.ones(6, 2, 4), dim=-1)
    loss = supcon_loss(z, torch.arange(6) % 2, torch.tensor([False] * 4 + [True] * 2))
    assert loss.item() == pytest.approx(math.log(11), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"is_negative": torch.zeros(4)}, TypeError, "must be bool"),
        ({"labels": torch.zeros(5)}, ValueError, "shape"),
        ({"temperature": 0.0}, ValueError, "temperature"),
        ({"negative_weight": -1.0}, ValueError, "negative_weight"),
        ({"negatives": "some"}, ValueError, "own"),
        ({"features": torch.zeros(4)}, ValueError, r"\(M, D\)"),
    ],
)
def test_bad_arguments_are_named(change, error, text):
    with pytest.raises(error, match=text):
        supcon_loss(**{"features": torch.zeros(4, 2, 3), "labels": torch.zeros(4), **change})


# --- the original study's defects (shared/original-study.md) -------------------------------------------------------


def test_defect_1_shuffled_labels_would_change_the_loss_and_rows_keep_their_own():
    """Labels that no longer belong to their rows: clustered embeddings are only good with their own labels."""
    labels = torch.arange(4).repeat_interleave(3)
    z = F.one_hot(labels, 8).float()[:, None].repeat(1, 2, 1)
    together = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    right = supcon_loss(z, labels)
    assert supcon_loss(z[together], labels[together]).item() == pytest.approx(right.item(), rel=1e-5)
    assert supcon_loss(z[together], labels) > right + 1


def test_defect_2_the_other_view_is_a_positive_and_in_the_denominator():
    """One picture of each class: the only positive is the own other view."""
    z, _, _ = sample(11, pictures=5)
    labels = torch.arange(5)
    rows, row_labels, none = flat(z, labels, torch.zeros(5, dtype=torch.bool))
    got = supcon_loss(z.requires_grad_(), labels)
    torch.testing.assert_close(got.double(), slow_loop(rows, row_labels, none), rtol=1e-5, atol=1e-6)
    got.backward()
    assert (z.grad.flatten(1).norm(dim=1) > 0).all()  # no anchor is dead
    with torch.no_grad():  # farther from its own view is worse
        assert supcon_loss(torch.stack([z[:, 0], -z[:, 0]], 1), labels) > got


def test_defect_3_negatives_are_columns_never_anchor_rows():
    """Scope 'own': another class's negative changes nothing; no negative is an anchor or a positive."""
    z, _, _ = sample(12, pictures=5)
    labels = torch.tensor([0, 0, 1, 1, 1])
    is_negative = torch.tensor([False, False, False, False, True])
    moved = z.clone()
    moved[4] = -moved[4]

    def by_anchor_class(rows, c):
        keep = (labels == c) & ~is_negative
        others = ~is_negative & ~keep
        # the other class's pictures as singletons: no anchors of theirs
        return (
            supcon_loss(
                torch.cat([rows[keep], rows[is_negative]]),
                torch.cat([labels[keep], labels[is_negative]]),
                torch.cat([is_negative[keep], is_negative[is_negative]]),
                negatives="own",
            )
            + 0 * others.sum()
        )

    torch.testing.assert_close(by_anchor_class(z, 0), by_anchor_class(moved, 0))  # class 1's negative: ignored
    assert not torch.isclose(by_anchor_class(z, 1), by_anchor_class(moved, 1))  # its own class meets it
    # as an anchor or positive it would pull its class towards itself: its gradient must push away instead
    z = z.requires_grad_()
    supcon_loss(z, labels, is_negative).backward()
    step = F.normalize(z - 0.01 * z.grad, dim=-1)
    before = (z[2:4].flatten(0, 1) @ z[4].T).exp().sum()
    after = (step[2:4].flatten(0, 1) @ step[4].T).exp().sum()
    assert after < before


@given(seed=st.integers(0, 10**6), pictures=st.integers(2, 9), classes=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_scope_other_never_pushes_a_negative_from_its_own_class(seed, pictures, classes):
    """A class's own negatives may be anywhere, its loss stays; so a copy of an anchor may be one of them."""
    z, labels, is_negative = sample(seed, pictures, classes=classes, negative_share=0.5)
    alone = labels == labels[0]  # one class only: nobody is of another
    z, labels, is_negative = z[alone], labels[alone], is_negative[alone]
    expected = supcon_loss(z[~is_negative], labels[~is_negative])
    torch.testing.assert_close(supcon_loss(z, labels, is_negative, negatives="other"), expected)
    copies = torch.cat([z, z]), torch.cat([labels, labels]), torch.cat([is_negative, torch.ones_like(is_negative)])
    torch.testing.assert_close(supcon_loss(*copies, negatives="other"), expected)


def test_the_scopes_share_out_the_denominator():
    """exp of an anchor's log-denominator: 'own' and 'other' add up to 'all', the in-distribution part counted once."""
    z = F.normalize(torch.randn(6, 5, generator=torch.Generator().manual_seed(4)).double(), dim=1)
    labels = torch.tensor([0, 0, 0, 1, 0, 2])
    is_negative = torch.tensor([False, False, True, True, True, True])
    one = torch.cat([z[:1], z[:1], z[2:]])  # two equal anchors: one denominator, each other's only positive
    found = {s: supcon_loss(one, labels, is_negative, negatives=s).exp().item() for s in ("all", "own", "other")}
    assert found["own"] + found["other"] == pytest.approx(found["all"] + 1, rel=1e-9)


def test_defect_4_a_larger_weight_strengthens_negatives():
    """Scaling shifted (<= 0) logits weakened them. Loss and push must grow with lambda, from nothing at 0."""
    z, labels, is_negative = sample(13, pictures=10, negative_share=0.4)
    values, pushes = [], []
    for weight in (0.0, 0.5, 1.0, 2.0, 4.0):
        x = z.clone().requires_grad_()
        loss = supcon_loss(x, labels, is_negative, negative_weight=weight)
        loss.backward()
        values.append(loss.item())
        pushes.append(x.grad[is_negative].norm().item())
    assert values == sorted(set(values)) and pushes == sorted(set(pushes)) and pushes[0] == 0


def test_defect_5_label_0_is_as_good_as_any():
    """A sign trick turns class 0's negatives into positives."""
    z, labels, is_negative = sample(14, pictures=12)
    expected = supcon_loss(z, labels, is_negative)
    for names in ([5, 6, 7], [2, 0, 1], [-1, -7, 0]):
        torch.testing.assert_close(supcon_loss(z, torch.tensor(names)[labels], is_negative), expected)


def test_defect_6_anchors_without_positives_do_not_dilute_the_mean():
    """Two pairs and six singletons: the mean is over the four anchors that have a positive."""
    z = F.normalize(torch.randn(10, 6, generator=torch.Generator().manual_seed(2)), dim=-1)
    labels = torch.tensor([0, 0, 1, 1, 2, 3, 4, 5, 6, 7])
    none = torch.zeros(10, dtype=torch.bool)
    logits = (z @ z.T / 0.1).fill_diagonal_(-torch.inf)
    per_anchor = [(torch.logsumexp(logits[i], 0) - logits[i, i ^ 1]).item() for i in range(4)]
    assert supcon_loss(z, labels, none).item() == pytest.approx(np.mean(per_anchor), rel=1e-5)


@pytest.mark.parametrize(
    ("labels", "is_negative", "views"),
    [
        ([3], [False], 1),  # a batch of one
        ([0, 1, 2], [False] * 3, 1),  # singletons only
        ([0, 1], [True, True], 2),  # negatives only
        ([0, 1], [False, True], 1),
        ([], [], 2),
    ],
)
def test_defect_7_no_positive_gives_zero_with_a_gradient(labels, is_negative, views):
    z, _, _ = sample(15, pictures=len(labels), views=views)
    z = z.requires_grad_()
    loss = supcon_loss(z, torch.tensor(labels, dtype=torch.long), torch.tensor(is_negative, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and torch.equal(z.grad, torch.zeros_like(z))


def test_defect_7_one_picture_one_class_and_no_labels_are_finite():
    z, labels, _ = sample(16, pictures=6)
    for case in (supcon_loss(z[:1], labels[:1]), supcon_loss(z, torch.zeros(6)), supcon_loss(z)):
        assert torch.isfinite(case)
    torch.testing.assert_close(supcon_loss(z), supcon_loss(z, torch.arange(6)))


# --- cached gradients and collapse ----------------------------------------------------------------------------------


@pytest.mark.parametrize("micro_batch", [1, 5, 8, 24, 100])
def test_cached_gradients_equal_the_plain_pass(micro_batch):
    encoder = build(MEMBER, {"width": 8, "blocks": [1, 1]}, 16, seed=0)
    images = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels, is_negative = torch.arange(12) % 3, torch.arange(12) >= 9

    def loss_of(z):
        return supcon_loss(z.view(12, 2, -1), labels, is_negative)

    encoder.zero_grad()
    expected, _ = backward_in_micro_batches(encoder, images, loss_of, None)
    plain = [p.grad.clone() for p in encoder.parameters()]
    encoder.zero_grad()
    loss, embeddings = backward_in_micro_batches(encoder, images, loss_of, micro_batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6) and embeddings.shape == (24, 16)
    for parameter, gradient in zip(encoder.parameters(), plain, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)


def test_collapse_is_said_with_what_to_try():
    z = F.normalize(torch.ones(20, 8) + 1e-4 * torch.randn(20, 8), dim=-1)
    text = collapse(math.log(19), 20, feature_variance(z))
    assert "variance" in text and "log(20 - 1)" in text and "learning_rate" in text and "warmup" in text


def test_a_healthy_run_is_no_collapse():
    z = F.normalize(torch.randn(200, 64), dim=-1)
    assert feature_variance(z) > 0.9
    assert collapse(2.5, 144, feature_variance(z)) is None
