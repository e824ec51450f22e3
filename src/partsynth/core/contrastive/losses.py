"""Supervised contrastive loss with negative-only samples, in blocks of rows, and exact large batches by cached
gradients.

Conventions, because published implementations differ:

* ``L_out``: the log stands outside the mean over positives (Khosla et al. 2020, arXiv 2004.11362, eq. 2).
* The mean runs over anchors that have a positive, as in pytorch-metric-learning; SupContrast's mean over all rows
  shrinks with every anchor that has none.
* The plain temperature of eq. 2, without SupContrast's factor ``temperature / base_temperature`` (T / 0.07).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_ELEMENTS = {"cpu": 2**20}  # logits held at once: 4 MiB of float32 stay in a core's cache
BLOCK_ELEMENTS_DEVICE = 2**25


def supcon_loss(
    features: Tensor,
    labels: Tensor | None = None,
    is_negative: Tensor | None = None,
    *,
    temperature: float = 0.1,
    negative_weight: float = 1.0,
    negatives: Literal["all", "own", "other"] = "all",
) -> Tensor:
    """SupCon loss (Khosla et al. 2020, eq. 2) whose denominator also holds negative-only samples.

    For an anchor i, with s_ij = z_i . z_j / temperature, P(i) the other in-distribution rows of its class (its own
    other views among them), I the in-distribution rows and Q(i) the negative-only rows::

        D(i) = sum_{j in I, j != i} exp(s_ij) + negative_weight * sum_{j in Q(i)} exp(s_ij)
        loss = mean over anchors i of  -1/|P(i)| * sum_{p in P(i)} (s_ip - log D(i))

    Anchors are the in-distribution rows with at least one positive. Negative-only rows are never anchors or positives.

    Parameters
    ----------
    features : (N, V, D) views of N images, or (M, D) single rows; L2-normalised by the caller.
    labels : (N,) or (M,) integers of any value; None makes every image its own class (then SupCon is NT-Xent).
    is_negative : (N,) or (M,) bool, the negative-only samples; None = there are none.
    temperature : > 0.
    negative_weight : lambda >= 0; 0 takes the negatives out.
    negatives : "all"; or "own": an anchor meets only the negatives that carry its own label; or "other": only those
        that do not (so that a real image may be an anchor of its class and a negative of the others).

    Returns
    -------
    A scalar, float32 (float64 for float64 features) also under autocast; 0 with a zero gradient where no row has a
    positive (one view of one image, singletons only).
    """
    if features.ndim not in (2, 3):
        raise ValueError(f"features must be (N, V, D) or (M, D), got shape {tuple(features.shape)}")
    if temperature <= 0 or negative_weight < 0:
        raise ValueError(f"need temperature > 0 and negative_weight >= 0, got {temperature} and {negative_weight}")
    if negatives not in ("all", "own", "other"):
        raise ValueError(f"negatives must be 'all', 'own' or 'other', got {negatives!r}")
    count, device = features.shape[0], features.device
    labels = torch.arange(count, device=device) if labels is None else labels.to(device)
    if is_negative is None:
        is_negative = torch.zeros(count, dtype=torch.bool, device=device)
    if is_negative.dtype != torch.bool:
        raise TypeError(f"is_negative must be bool, got {is_negative.dtype}")
    is_negative = is_negative.to(device)
    for name, value in (("labels", labels), ("is_negative", is_negative)):
        if value.shape != (count,):
            raise ValueError(f"{name} must have shape ({count},) for features of {tuple(features.shape)}")
    if features.ndim == 3:
        views = features.shape[1]
        labels, is_negative = labels.repeat_interleave(views), is_negative.repeat_interleave(views)
        features = features.flatten(0, 1)  # (N V, D)

    with torch.autocast(device.type, enabled=False):
        z = features if features.dtype == torch.float64 else features.float()
        values, classes = torch.unique(labels, return_inverse=True)  # values play no part: 0 is as good as any
        positive = ~is_negative
        sizes = torch.zeros(len(values), dtype=torch.long, device=device).index_add_(0, classes, positive.long())
        is_anchor = positive & (sizes[classes] > 1)
        # anchors, then in-distribution rows without a positive, then negatives: blocks of columns instead of masks
        place = is_negative.long() * 2 + (positive & ~is_anchor).long()
        in_place = (place[1:] >= place[:-1]).all().long()
        anchors, num_id, unmoved = torch.stack([is_anchor.sum(), positive.sum(), in_place]).tolist()
        if anchors == 0:
            return features.sum().to(z.dtype) * 0
        rows = num_id if negative_weight == 0 else len(place)
        if not unmoved:
            order = torch.argsort(place, stable=True)[:rows]
            z, classes = z[order], classes[order]
        elif rows < len(place):
            z, classes = z[:rows], classes[:rows]
        log_weight = math.log(negative_weight) if negative_weight > 0 else 0.0
        save = torch.is_grad_enabled() and z.requires_grad
        return _SupCon.apply(z, classes, sizes, anchors, num_id, temperature, log_weight, negatives, save)


class _SupCon(torch.autograd.Function):
    """Mean over anchors of log D(i) less the mean s_ip. The gradient is made in the forward pass, block by block, so
    that neither pass ever holds more than one block of the (anchors x rows) logits."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,  # (M, D), ordered: anchors, other in-distribution rows, negatives
        classes: Tensor,  # (M,)
        sizes: Tensor,  # (classes,) in-distribution rows
        anchors: int,
        num_id: int,
        temperature: float,
        log_weight: float,
        scope: str,
        save: bool,
    ) -> Tensor:
        gradient = torch.zeros_like(z) if save else None
        denominator = _log_denominators(z, classes, anchors, num_id, temperature, log_weight, scope, gradient)
        if gradient is not None:
            gradient /= temperature * anchors
        own, of = z[:anchors], classes[:anchors]
        # a class's in-distribution rows are all anchors: its sum less the anchor itself is the sum over P(i)
        sums = z.new_zeros(len(sizes), z.shape[1]).index_add_(0, of, own)  # (classes, D)
        others = sums.index_select(0, of).sub_(own)  # (A, D)
        scale = temperature * (sizes[of] - 1).to(z.dtype)  # (A,), temperature |P(i)|
        numerator = (own * others).sum(1) / scale  # mean over P(i) of s_ip
        if gradient is not None:
            slope = (z.new_tensor(-1.0) / anchors / scale)[:, None]
            back = own * slope
            others.mul_(slope).sub_(back)
            others += torch.zeros_like(sums).index_add_(0, of, back).index_select(0, of)
            gradient[:anchors] += others
        ctx.save_for_backward(gradient)
        return denominator / anchors - numerator.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * outer, *[None] * 8)


def _log_denominators(
    z: Tensor,
    classes: Tensor,
    anchors: int,
    num_id: int,
    temperature: float,
    log_weight: float,
    scope: str,
    gradient: Tensor | None,
) -> Tensor:
    """The sum over anchors of log D(i); its gradient, times the temperature, is added to ``gradient`` (M, D)."""
    rows = z.shape[0]
    block = max(1, BLOCK_ELEMENTS.get(z.device.type, BLOCK_ELEMENTS_DEVICE) // rows)
    total = z.new_zeros(())
    logits = z.new_empty(min(block, anchors), rows)
    for start in range(0, anchors, block):
        stop = min(start + block, anchors)
        query = z[start:stop]  # (B, D)
        s = logits[: stop - start]  # (B, M)
        torch.mm(query / temperature, z.T, out=s)
        s.diagonal(start).fill_(-torch.inf)  # an anchor is not in its own denominator
        if num_id < rows:
            if log_weight:
                s[:, num_id:] += log_weight  # lambda exp(s) = exp(s + log lambda); logits are never scaled
            if scope != "all":
                unmet = torch.ne if scope == "own" else torch.eq
                s[:, num_id:].masked_fill_(unmet(classes[start:stop, None], classes[None, num_id:]), -torch.inf)
        shift = s.amax(1, keepdim=True)  # finite: an anchor has at least one positive
        mass = s.sub_(shift).exp_().sum(1, keepdim=True)  # (B, 1)
        total += (shift + mass.log()).sum()
        if gradient is not None:
            s /= mass  # softmax over the denominator
            gradient[start:stop].addmm_(s, z)
            gradient.addmm_(s.T, query)
    return total


def backward_in_micro_batches(
    encode: Callable[[Tensor], Tensor],
    inputs: Tensor,
    loss_of: Callable[[Tensor], Tensor],
    micro_batch: int | None = None,
    backward: Callable[[Tensor], None] = Tensor.backward,
    unsynced: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> tuple[Tensor, Tensor]:
    """Back-propagate ``loss_of(encode(inputs))``, in micro-batches where ``inputs`` do not fit the device at once.

    Cached gradients (GradCache, Gao et al. 2021, arXiv 2101.06983): embed everything without a graph, take the loss's
    gradient with respect to the embeddings, then encode part by part again and push that gradient through. Loss and
    gradients equal the plain path's as long as ``encode`` treats each row alone and repeatably (no batch
    normalisation, no dropout).

    Parameters
    ----------
    inputs : (M, ...); ``encode`` maps rows to (rows, D), ``loss_of`` maps (M, D) to a scalar.
    micro_batch : rows per pass; None = all in one plain pass.
    backward : back-propagates a scalar (accelerate's scales it for float16).
    unsynced : context in which gradients of a distributed model are not yet exchanged; used for all but the last part.

    Returns
    -------
    The detached loss and the detached embeddings (M, D).
    """
    if micro_batch is None or micro_batch >= len(inputs):
        embeddings = encode(inputs)
        loss = loss_of(embeddings)
        backward(loss)
        return loss.detach(), embeddings.detach()
    parts = inputs.split(micro_batch)
    with torch.no_grad():
        embeddings = torch.cat([encode(part) for part in parts])
    embeddings.requires_grad_()
    loss = loss_of(embeddings)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    for index, (part, slope) in enumerate(zip(parts, gradient.split(micro_batch), strict=True)):
        with nullcontext() if index == len(parts) - 1 else unsynced():
            backward((encode(part).to(slope.dtype) * slope).sum())
    return loss.detach(), embeddings.detach()


def feature_variance(embeddings: Tensor) -> Tensor:
    """Total variance of L2-normalised rows (M, D), a scalar in [0, 1]: 0 = all alike (collapsed), about 1 = spread."""
    z = embeddings.detach().float()
    return (z - z.mean(0)).square().sum(1).mean()


def collapse(loss: float, n: float, feature_variance: float) -> str | None:
    """What to say where training has collapsed, else None.

    Parameters
    ----------
    loss : SupCon loss late in training.
    n : rows a denominator is drawn from, the anchor included (negatives count by their weight): embeddings that are
        all alike give exactly log(n - 1).
    feature_variance : of the embeddings, in [0, 1] (see ``feature_variance``).
    """
    signs = []
    if feature_variance < 0.01:
        signs.append(f"the embeddings' variance is {feature_variance:.2g} (all images look alike to the encoder)")
    chance = math.log(max(n - 1, 2))
    if loss >= 0.98 * chance:
        signs.append(
            f"the loss is {loss:.3f}, that of embeddings without information is log({n:.0f} - 1) = {chance:.3f}"
        )
    if not signs:
        return None
    return (
        "collapse: "
        + " and ".join(signs)
        + ". Try, in this order: a lower train.learning_rate or a longer train.warmup; "
        "train.temperature nearer 0.1 - 0.2; more train.steps; more train.anchors (train.chunk keeps them in memory); "
        "a smaller train.negative_weight; and look whether the labels are right."
    )
