"""The linear probe on the frozen encoder."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from partsynth.config.training import Train
from partsynth.core.contrastive import encoder as encoders
from partsynth.core.images import views
from partsynth.store.hashing import seed_from

if TYPE_CHECKING:
    pass
from partsynth.training.images import Pictures
from partsynth.training.result import NonFinite
from partsynth.training.schedule import schedule

CLASSIFIER_VIEWS = 4  # random views of each picture, beside the picture itself, that the classifier learns from


@torch.no_grad()
def _features(network: encoders.Encoder, images: Tensor, draws: Tensor | None = None, kind: Any = "standard") -> Tensor:
    """Features (n, D) of uint8 pictures (n, S, S, 3), or of a random view of each where ``draws`` are given."""
    device, parts = next(network.parameters()).device, []
    for rows in torch.arange(len(images)).split(256):
        x = encoders.to_float(images[rows].to(device))
        parts.append(network.features(x if draws is None else views.augment(x, draws[rows], kind=kind)))
    return torch.cat(parts)


def knn_accuracy(network: encoders.Encoder, pictures: Pictures) -> float:
    """Share of validation pictures whose nearest real training picture (cosine of features) is of their class."""
    if not len(pictures.val_labels):
        return math.nan
    network.eval()
    real = torch.from_numpy(~pictures.is_synthetic & ~pictures.is_negative)
    known = _features(network, pictures.images[real])
    asked = _features(network, pictures.val_images)
    normalise = torch.nn.functional.normalize
    nearest = (normalise(asked) @ normalise(known).T).argmax(1).cpu().numpy()
    return float((pictures.labels[real.numpy()][nearest] == pictures.val_labels).mean())


def fit_classifier(
    model: encoders.Classifier, pictures: Pictures, images: Tensor, params: Train, seed: int
) -> dict[str, float]:
    """Fit ``model.classifier`` on the frozen encoder; returns its accuracies.

    Features of the positives, each as it is and in a few random views, are made once; then multinomial logistic
    regression in standardised features. Classes weigh alike; within one, synthetic pictures weigh
    ``synthetic_share`` together.
    """
    positive = np.flatnonzero(~pictures.is_negative)
    chosen = images[torch.from_numpy(positive).to(images.device)]
    parts = [_features(model.encoder, chosen)]
    for view in range(CLASSIFIER_VIEWS):
        draws = views.draw(len(positive), seed_from("classifier views", seed, view))
        parts.append(_features(model.encoder, chosen, draws, params.augment))
    features = torch.cat(parts)  # ((1 + views) n, D)
    repeats = len(features) // len(positive)
    labels = torch.from_numpy(np.tile(pictures.labels[positive], repeats)).to(images.device)
    weights = _sample_weights(pictures, positive, params.synthetic_share)
    weights = torch.from_numpy(np.tile(weights, repeats)).to(images.device, torch.float32)
    weights /= weights.sum()

    mean, spread = features.mean(0), features.std(0).clamp(min=1e-6)
    x = (features - mean) / spread
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from("classifier", seed))
        linear = torch.nn.Linear(x.shape[1], len(pictures.classes)).to(x.device)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=params.classifier_learning_rate, weight_decay=1e-2)
    for step in range(params.classifier_steps):
        optimizer.param_groups[0]["lr"] = params.classifier_learning_rate * schedule(step, params.classifier_steps, 0)
        loss = (torch.nn.functional.cross_entropy(linear(x), labels, reduction="none") * weights).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if not math.isfinite(float(loss.detach())):
        raise NonFinite(f"the classifier's loss became {float(loss.detach())}: lower train.classifier_learning_rate")
    with torch.no_grad():  # fold the standardisation in: the saved classifier takes features as the encoder gives them
        model.classifier.weight.copy_(linear.weight / spread)
        model.classifier.bias.copy_(linear.bias - (linear.weight / spread) @ mean)
        clean = model.classifier(features[: len(positive)]).argmax(1).cpu().numpy()
    metrics = {
        "classifier_loss": float(loss.detach()),
        "train_accuracy": float((clean == pictures.labels[positive]).mean()),
    }
    if len(pictures.val_labels):
        _, logits = encoders.embed(model, pictures.val_images)
        metrics["val_accuracy"] = float((logits.argmax(1).numpy() == pictures.val_labels).mean())
    return metrics


def _sample_weights(pictures: Pictures, rows: np.ndarray, synthetic_share: float) -> np.ndarray:
    """(len(rows),) weights: each class sums to 1, its synthetic pictures to ``synthetic_share`` where it has both."""
    weights = np.zeros(len(rows))
    labels, made = pictures.labels[rows], pictures.is_synthetic[rows]
    for c in np.unique(labels):
        real, synthetic = (labels == c) & ~made, (labels == c) & made
        share = synthetic_share if synthetic.any() and real.any() else float(synthetic.any())
        weights[real] = (1 - share) / max(real.sum(), 1)
        weights[synthetic] = share / max(synthetic.sum(), 1)
    return weights
