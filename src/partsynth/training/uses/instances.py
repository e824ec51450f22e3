"""Instance discrimination (Wu et al. 2018, arXiv 1805.01978) on negatives: each is a class of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from partsynth.config.training import Train
from partsynth.core.contrastive.losses import supcon_loss
from partsynth.training.use import Seen, Use


class Instances(Use):
    """In a denominator a negative says where a class ends. Here it is an anchor too: the encoder learns what tells
    parts apart that are of no class, and to keep them away from every class and from each other."""

    name = "instances"
    nobodys = True

    def term(self, seen: Seen, params: Train) -> Tensor | None:
        """Weight x NT-Xent whose anchors are the negatives alone: positive is a negative's other view, all other rows
        of the step stand in the denominator; 0 without negatives."""
        rows = torch.arange(len(seen.labels), device=seen.labels.device)  # labels: each its own class
        return params.negative_use_weight * supcon_loss(
            seen.embeddings, rows, ~seen.is_negative, temperature=params.temperature
        )


MEMBER = Instances()
