"""ASCOOD (Regmi 2024, arXiv 2411.10794): outliers from the training images themselves. The pixels that make an image's
class, by the gradient of its logit, are destroyed, and the head's softmax on what is left is pulled to uniform.

It needs no negatives: the control that shows what generated ones are worth.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from partsynth.core.contrastive import encoder as encoders
from partsynth.core.contrastive.batches import Step
from partsynth.core.contrastive.exposure import Beside, outliers
from partsynth.store.hashing import seed_from
from partsynth.training.images import TrainingImages
from partsynth.training.use import Exposing, Made, Making, classes_of, uniform

BATCH_SIZE = 256


class Ascood(Exposing):
    name = "ascood"

    def made(self, making: Making, drawn: Step) -> Made | None:
        """``train.negatives`` of them, from in-distribution images of the step."""
        rows = np.flatnonzero(~drawn.is_negative)
        count = min(making.params.negatives, len(rows))
        if not count:
            return None
        rng = np.random.default_rng(seed_from("outliers", making.seed))
        rows = rng.choice(rows, count, replace=False)
        return _outliers(making, making.views(drawn.first[rows], "outlier"), drawn.labels[rows][making.own(count)])

    def shown(self, making: Making, images: TrainingImages) -> list[Made]:
        """One of each positive as it is."""
        rows = np.flatnonzero(~images.is_negative)
        plain = encoders.to_float(making.pixels[torch.from_numpy(rows).to(making.pixels.device)])
        return [_outliers(making, plain, images.labels[rows])]


def _outliers(making: Making, images: Tensor, labels: np.ndarray) -> Made:
    network, params = making.network, making.params
    assert isinstance(network, Beside)
    training, chosen = network.training, torch.from_numpy(np.ascontiguousarray(labels)).to(images.device)
    network.eval()
    size = min(BATCH_SIZE, params.chunk or BATCH_SIZE)
    made = []
    for part, own in zip(images.split(size), chosen.split(size), strict=True):
        part = part.detach().requires_grad_()
        with torch.enable_grad():
            logit = network.logits(part).gather(1, own[:, None]).sum()
            (gradient,) = torch.autograd.grad(logit, part)  # of the pixels alone: no weight gets one
        made.append(outliers(part.detach(), gradient, params.outlier_pixels, params.outlier_strength))
    network.train(training)
    return Made(torch.cat(made), uniform(len(images), classes_of(network), images.device))


MEMBER = Ascood()
