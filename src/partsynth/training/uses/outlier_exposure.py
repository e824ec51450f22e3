"""Outlier Exposure (Hendrycks et al. 2019, arXiv 1812.04606): the head's softmax is uniform on negatives."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from partsynth.core.contrastive import encoder as encoders
from partsynth.core.contrastive.exposure import soft_cross_entropy
from partsynth.training.images import TrainingImages
from partsynth.training.use import PROBE_ROUNDS, Exposing, Made, Making, Seen, classes_of, uniform


class OutlierExposure(Exposing):
    """The negatives that the step holds anyway, in both their views, are what is exposed."""

    name = "outlier_exposure"

    def exposed(self, seen: Seen) -> Tensor:
        logits = seen.beside[seen.is_negative].flatten(0, 1)  # (2 negatives, C)
        return soft_cross_entropy(logits, uniform(len(logits), logits.shape[1], logits.device).to(logits.dtype))

    def shown(self, making: Making, images: TrainingImages) -> list[Made]:
        """Each negative as it is, and in random views."""
        negatives = np.flatnonzero(images.is_negative)
        if not len(negatives):
            return []
        plain = encoders.to_float(making.pixels[torch.from_numpy(negatives).to(making.pixels.device)])
        seen = [plain, *(making.views(negatives, f"shown {turn}") for turn in range(PROBE_ROUNDS))]
        return [Made(part, uniform(len(part), classes_of(making.network), part.device)) for part in seen]


MEMBER = OutlierExposure()
