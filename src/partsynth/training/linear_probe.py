"""The linear probe on the frozen encoder, and the nearest-neighbour accuracy that is watched in between."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from partsynth.config.training import Train
from partsynth.core.contrastive import encoder as encoders
from partsynth.core.contrastive.exposure import soft_cross_entropy
from partsynth.core.images import views
from partsynth.core.schedules import warmup_cosine
from partsynth.store.hashing import seed_from
from partsynth.training.images import TrainingImages, random_views
from partsynth.training.result import NonFinite

PROBE_VIEWS = 4  # random views of each image, beside the image itself, that the probe learns from by default
BATCH_SIZE = 256
Shown = tuple[Tensor, Tensor]  # features (m, D) of what is of no class, and the softmax (m, C) wanted there


@torch.no_grad()
def _features(network: encoders.Encoder, images: Tensor, view: tuple[Tensor, Train] | None = None) -> Tensor:
    """Features (n, D) of uint8 images (n, S, S, 3), or of a random view of each, given as numbers and strengths."""
    device, parts = next(network.parameters()).device, []
    for rows in torch.arange(len(images)).split(BATCH_SIZE):
        x = images[rows].to(device)
        parts.append(network.features(random_views(x, view[0][rows], view[1]) if view else encoders.to_float(x)))
    return torch.cat(parts)


@torch.no_grad()
def _fixed_features(network: encoders.Encoder, images: Tensor, kind: views.Fixed) -> Iterator[Tensor]:
    """Features (n, D) of uint8 images (n, S, S, 3) in each view of ``kind``."""
    parts = [
        torch.stack([network.features(view) for view in views.fixed(encoders.to_float(rows), kind)])
        for rows in images.to(next(network.parameters()).device).split(BATCH_SIZE)
    ]
    yield from torch.cat(parts, 1)  # (views, n, D)


def knn_accuracy(network: encoders.Encoder, images: TrainingImages) -> float:
    """Share of validation images whose nearest real training image (cosine of features) is of their class.

    nan where there are no validation images.
    """
    if not len(images.val_labels):
        return math.nan
    network.eval()
    real = torch.from_numpy(images.is_real)
    known = _features(network, images.images[real])  # (n, D)
    asked = _features(network, images.val_images)  # (m, D)
    nearest = (F.normalize(asked) @ F.normalize(known).T).argmax(1).cpu().numpy()
    return float((images.labels[real.numpy()][nearest] == images.val_labels).mean())


def fit_linear_probe(
    model: encoders.Classifier, images: TrainingImages, params: Train, seed: int, shown: Shown | None = None
) -> dict[str, float]:
    """Fit ``model.classifier`` and choose ``model.test_views``, on the model's device; returns its accuracies.

    With ``params.test_views`` "auto" a probe is fitted for each kind of views, and the one of the highest accuracy on
    validation images is taken, of equals that with the fewest views; the others' accuracies are told too.

    Parameters
    ----------
    shown : features (m, D) of images of no class and the softmax (m, C) wanted on each, to which the probe is pulled
        with the weight ``params.negative_use_weight``; None = the positives alone.

    Raises
    ------
    NonFinite
        where the loss is no number at the end.
    """
    if params.test_views != "auto":
        return _fit(model, images, params, seed, params.test_views, shown)
    kinds = views.FIXED if len(images.val_labels) else views.FIXED[:1]
    tried = {kind: _fit(model, images, params, seed, kind, shown) for kind in kinds}
    best = max(kinds, key=lambda kind: tried[kind].get("val_accuracy", 0.0))  # the first of equals
    chosen = tried[best] if best == kinds[-1] else _fit(model, images, params, seed, best, shown)
    return chosen | {f"val_accuracy_{kind}": of["val_accuracy"] for kind, of in tried.items() if "val_accuracy" in of}


def _fit(
    model: encoders.Classifier, images: TrainingImages, params: Train, seed: int, kind: views.Fixed, shown: Shown | None
) -> dict[str, float]:
    """Features of the positives, each in the views of ``kind``, are made once; then multinomial logistic regression in
    standardised features. Classes weigh alike; within one, synthetic images weigh ``synthetic_share`` together.

    Of kind "none" an image is seen as it is and in a few random views.
    """
    model.test_views = kind
    device = next(model.parameters()).device
    positive = np.flatnonzero(~images.is_negative)
    chosen = images.images[torch.from_numpy(positive)].to(device)
    if kind == "none":
        parts = [_features(model.encoder, chosen)]
        for view in range(PROBE_VIEWS):
            draws = views.draw(len(positive), seed_from("classifier views", seed, view))
            parts.append(_features(model.encoder, chosen, (draws, params)))
    else:
        parts = list(_fixed_features(model.encoder, chosen, kind))
    features = torch.cat(parts)  # (views n, D), the images as they are first
    repeats = len(parts)
    labels = torch.from_numpy(np.tile(images.labels[positive], repeats)).to(device)
    shares = np.tile(sample_weights(images, positive, params.synthetic_share), repeats)
    weights = torch.from_numpy(shares).to(device, torch.float32)
    weights /= weights.sum()

    mean, spread = features.mean(0), features.std(0).clamp(min=1e-6)
    x = (features - mean) / spread
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from("classifier", seed))
        linear = torch.nn.Linear(x.shape[1], len(images.classes)).to(device)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=params.classifier_learning_rate, weight_decay=1e-2)
    for step in range(params.classifier_steps):
        rate = params.classifier_learning_rate * warmup_cosine(step, params.classifier_steps, 0)
        optimizer.param_groups[0]["lr"] = rate
        loss = (F.cross_entropy(linear(x), labels, reduction="none") * weights).sum()
        if shown is not None:
            pulled = soft_cross_entropy(linear((shown[0] - mean) / spread), shown[1])
            loss = loss + params.negative_use_weight * pulled
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    last = float(loss.detach())
    if not math.isfinite(last):
        raise NonFinite(f"the classifier's loss became {last}: lower train.classifier_learning_rate")
    with torch.no_grad():  # fold the standardisation in: the stored probe takes features as the encoder gives them
        model.classifier.weight.copy_(linear.weight / spread)
        model.classifier.bias.copy_(linear.bias - (linear.weight / spread) @ mean)
        clean = model.classifier(features[: len(positive)]).argmax(1).cpu().numpy()
    metrics = {"classifier_loss": last, "train_accuracy": float((clean == images.labels[positive]).mean())}
    if len(images.val_labels):
        _, logits = encoders.embed(model, images.val_images)
        metrics["val_accuracy"] = float((logits.argmax(1).numpy() == images.val_labels).mean())
    return metrics


def sample_weights(images: TrainingImages, rows: np.ndarray, synthetic_share: float) -> np.ndarray:
    """(len(rows),) weights: each class sums to 1, its synthetic images to ``synthetic_share`` where it has both."""
    weights = np.zeros(len(rows))
    labels, synthetic = images.labels[rows], images.is_synthetic[rows]
    for c in np.unique(labels):
        real, made = (labels == c) & ~synthetic, (labels == c) & synthetic
        share = synthetic_share if made.any() and real.any() else float(made.any())
        weights[real] = (1 - share) / max(real.sum(), 1)
        weights[made] = share / max(made.sum(), 1)
    return weights
